"""Progress of long work: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, of) to call as the work goes on."""
    if not sys.stderr.isatty():
        yield lambda done, of: _line(title, done, of)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, of: bars.update(task, total=of, completed=done)


def _line(title: str, done: int, of: int) -> None:
    if done * 10 // of != (done - 1) * 10 // of:
        print(f"{title}: {done} of {of}", flush=True)
