"""docs/operators.md says what the kernel folders say."""

from __future__ import annotations

from etexport.kernel.library import Library

from .document import PAGE, page


def test_the_page_is_up_to_date(library: Library) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(library), "python -m tests.operators.document writes it anew"
