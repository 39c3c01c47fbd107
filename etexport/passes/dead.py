"""Instructions whose results nobody reads, and values that nobody reads or writes."""

from __future__ import annotations

from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.model import Method


def remove_dead(method: Method, library: Library) -> Method:
    """What reaches neither an output nor a jump goes, with states that nothing reads but what computes them anew (a
    batch normalisation counts what it has seen); other methods read what they share. Inputs stay, read or not: they are
    the model's interface."""
    draft = Draft(method)
    draft.drop_dead()
    return draft.done()
