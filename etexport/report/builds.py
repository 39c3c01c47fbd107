"""Two reports side by side: figures first, then operators, those of one name and place in the order beside each
other."""

from __future__ import annotations

import dataclasses
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from rich.console import Console
from rich.table import Table

from etexport.artifacts.records import read_record
from etexport.artifacts.sizes import Parts
from etexport.report.bench import Outputs, number
from etexport.report.profile import unit_of
from etexport.report.report import Ram

Cells = tuple[str, str, str, str]


@dataclass(frozen=True)
class Operator:
    name: str
    count: int | None


@dataclass(frozen=True)
class Side:
    """What of a `report.json` is compared: fields of `report.Report`."""

    model: str
    board: str
    quantization: str
    optimize: str
    program_hash: str
    counter: str
    count: int | None
    init_count: int | None
    flash: Parts
    ram: Ram
    compare: Outputs | None
    ops: tuple[Operator, ...]


@dataclass(frozen=True)
class Compared:
    """What both are, and what the second takes more or less than the first: a line each of what, before, after, and the
    change. No change is told between counts of different counters."""

    figures: tuple[Cells, ...]
    operators: tuple[Cells, ...]
    units: tuple[str, str]

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=200, no_color=True, highlight=False, force_terminal=False)
        with console.capture() as capture:
            console.print(_table(("", "before", "after", "change"), self.figures))
            console.print()
            console.print(_table(("operator", *self.units, "change"), self.operators))
        return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def compared(before: Path, after: Path) -> Compared:
    """Two build folders, or files of the form of `report.json`. ModelError for what is no report."""
    one, other = (
        read_record(path / "report.json" if path.is_dir() else path, Side, "`etexport report` writes it")
        for path in (before, after)
    )
    units = (f"before, {unit_of(one.counter)}", f"after, {unit_of(other.counter)}")
    return Compared(tuple(figures(one, other)), tuple(operators(one, other)), units)


def figures(before: Side, after: Side) -> Iterator[Cells]:
    """What each is, and what it takes."""
    for key in ("model", "board", "quantization", "optimize", "program_hash", "counter"):
        one, other = getattr(before, key), getattr(after, key)
        yield key.replace("_", " "), one, other, "" if one == other else "another"
    same_counter = before.counter == after.counter
    yield _row("an inference", before.count, after.count, same_counter)
    yield _row("start-up", before.init_count, after.init_count, same_counter)
    for group in ("flash", "ram"):
        for part, size in dataclasses.asdict(getattr(before, group)).items():
            yield _row(f"{group}, {part.replace('_', ' ')}", size, getattr(getattr(after, group), part))
    for key, title in (
        ("accuracy", "accuracy"),
        ("snr_db", "signal to noise, dB"),
        ("mismatched", "samples that differ"),
    ):
        one, other = (None if side.compare is None else getattr(side.compare, key) for side in (before, after))
        if one is not None or other is not None:
            yield title, _plain(one), _plain(other), ""


def operators(before: Side, after: Side) -> Iterator[Cells]:
    """Each operator of both; one that only one of them has stands alone."""
    ours, theirs = [op.name for op in before.ops], [op.name for op in after.ops]
    for what, first, end, from_other, to_other in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        left, right = before.ops[first:end], after.ops[from_other:to_other]
        if what == "equal":
            same_counter = before.counter == after.counter
            yield from (
                _row(one.name, one.count, other.count, same_counter) for one, other in zip(left, right, strict=True)
            )
        else:
            yield from (_row(op.name, op.count, None) for op in left)
            yield from (_row(op.name, None, op.count) for op in right)


def _row(title: str, before: int | None, after: int | None, comparable: bool = True) -> Cells:
    change = ""
    if comparable and before is not None and after is not None and before != after:
        change = f"{after - before:+,}" + (f" ({after / before - 1:+.1%})" if before else "")
    return title, number(before), number(after), change


def _plain(value: object) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _table(columns: Sequence[str], rows: Iterable[Cells]) -> Table:
    made = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for at, column in enumerate(columns):
        made.add_column(column, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made
