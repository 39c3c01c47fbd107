"""`build/bench.json`, a list of reports, and tables: they beside their peers, quantised images beside what is asked of
them, and images for speed beside those for size."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etexport.artifacts.records import read_record
from etexport.artifacts.sizes import Parts
from etexport.report.peers import Peer, goal_of, network_of, peers_of
from etexport.report.profile import check_counts, unit_of
from etexport.report.report import Ram

COLUMNS = ("an inference", "a MAC", "flash", "RAM", "arena", "start-up")

FIGURES = {
    "count": "instructions an inference",
    "code": "flash without constants",
    "constants": "constants",
    "arena": "arena, inputs and outputs in it",
    "ram_without_link": "RAM under a main of one's own",
    "init_count": "instructions of the start",
}
"""What is asked is asked in instructions: nothing else stands beside it."""

PEER = "TFLM + CMSIS-NN"
BEST = "best known"


@dataclass(frozen=True)
class Row:
    """One line of the table; None where a figure is not known. `times` is the count divided by ours."""

    model: str
    who: str
    ours: bool
    count: float | None
    per_mac: float | None
    flash: int | None
    ram: int | None
    arena: int | None
    init_count: int | None
    times: float | None
    unit: str
    accuracy: str


@dataclass(frozen=True)
class Asked:
    """One figure of one of our images beside what it may be at most, the peer's, and the best known; None where there
    is none."""

    model: str
    figure: str
    ours: int | None
    at_most: int
    peer: int | None
    best: int | None


@dataclass(frozen=True)
class Outputs:
    """Fields of `report.Compared`."""

    samples: int
    judged: int
    mismatched: int
    accuracy: float | None
    accuracy_eager: float | None
    same_class: int | None
    tolerance_lsb: int | None
    snr_db: float | str | None = None
    """A word where it is no number."""


@dataclass(frozen=True)
class Worked:
    macs: int


@dataclass(frozen=True)
class Benched:
    """What of a `report.json` the tables show: fields of `report.Report`."""

    model: str
    board: str
    core: str
    quantization: str
    optimize: str
    macs: int
    counter: str
    count: int | None
    count_per_mac: float | None
    init_count: int | None
    flash: Parts
    ram: Ram
    compare: Outputs | None
    ops: tuple[Worked, ...]

    @property
    def unit(self) -> str:
        return unit_of(self.counter)

    @property
    def network(self) -> str:
        return network_of([op.macs for op in self.ops if op.macs])

    @property
    def title(self) -> str:
        return self.model if self.quantization == "float32" else f"{self.model} {self.quantization}"


def read_reports(paths: Sequence[Path]) -> list[Benched]:
    """The reports in order; ModelError for a file that is not one, or has counts that cannot be."""
    reports = []
    for path in paths:
        report = read_record(path, Benched, "`etexport report` writes it")
        check_counts(report.count, None, report.init_count, (), report.counter, str(path))
        reports.append(report)
    return reports


def bench_json(paths: Sequence[Path]) -> str:
    return (
        json.dumps([json.loads(path.read_text(encoding="utf-8")) for path in paths], indent=1, allow_nan=False) + "\n"
    )


def rows(reports: Sequence[Benched]) -> tuple[Row, ...]:
    """Each report of an image for speed, followed by the peers that ran the same model on the same core."""
    found: list[Row] = []
    for report in for_speed(reports):
        found.append(our_row(report))
        known = peers_of(report.core, report.quantization, report.network)
        found.extend(peer_row(peer, report) for peer in known)
    return tuple(found)


def for_speed(reports: Sequence[Benched]) -> list[Benched]:
    """Reports of default images; all where there is none."""
    return [report for report in reports if report.optimize == "speed"] or list(reports)


def our_row(report: Benched) -> Row:
    return Row(
        model=report.title,
        who=f"etexport, {report.board}" + (", size" if report.optimize == "size" else ""),
        ours=True,
        count=report.count,
        per_mac=report.count_per_mac,
        flash=report.flash.total,
        ram=report.ram.total,
        arena=report.ram.arena,
        init_count=report.init_count,
        times=None,
        unit=report.unit,
        accuracy=verdict(report.compare),
    )


def verdict(compare: Outputs | None) -> str:
    """Do the outputs agree, and how many are right?"""
    if not compare:
        return ""
    if compare.mismatched:
        return f"{compare.mismatched} of {compare.samples} differ"
    text = "as eager"
    if compare.accuracy is not None:
        text = f"{compare.accuracy:.1%} (eager {compare.accuracy_eager:.1%})"
    if compare.tolerance_lsb is not None and compare.same_class is not None and compare.judged:
        text += f", same class as float in {compare.same_class} of {compare.judged}"
    if compare.tolerance_lsb is not None and isinstance(compare.snr_db, float):
        text += f", {compare.snr_db:.1f} dB"
    return text


def asked(reports: Sequence[Benched]) -> tuple[Asked, ...]:
    """Every figure of which something is asked of one image, the default one, in order of the reports."""
    found = []
    for report in for_speed(reports):
        network = report.network
        goal = goal_of(report.core, report.quantization, network)
        peers = {peer.name: peer.figures[network] for peer in peers_of(report.core, report.quantization, network)}
        ours = our_figures(report)

        def known(peer: str, figure: str, peers: Mapping[str, Mapping[str, float]] = peers) -> int | None:
            value = peers.get(peer, {}).get(figure)
            return None if value is None else int(value)

        for figure, at_most in goal.items():
            found.append(Asked(report.model, figure, ours[figure], at_most, known(PEER, figure), known(BEST, figure)))
    return tuple(found)


def our_figures(report: Benched) -> dict[str, int | None]:
    """By what they are called in `FIGURES`; counts of anything but instructions are none of these."""
    flash, ram = report.flash, report.ram
    instructions = report.unit == "instructions"
    return {
        "count": report.count if instructions else None,
        "code": flash.total - flash.constants,
        "constants": flash.constants,
        "arena": ram.arena,
        "ram_without_link": ram.total_without_link,
        "init_count": report.init_count if instructions else None,
    }


def asked_cells(reports: Sequence[Benched]) -> list[tuple[str, ...]]:
    """The second table: a line a figure."""
    cells: list[tuple[str, ...]] = []
    last = ""
    for one in asked(reports):
        share = "" if one.ours is None else f"{one.ours / one.at_most:.0%}"
        name = "" if one.model == last else one.model
        figures = (number(one.ours), number(one.at_most), share, number(one.peer), number(one.best))
        cells.append((name, FIGURES[one.figure], *figures))
        last = one.model
    return cells


ASKED_COLUMNS = ("etexport", "at most", "of that", PEER, BEST)


def figure_table(title: str, columns: Sequence[str], lines: Sequence[tuple[str, ...]]) -> Table:
    """Lines of model, figure and numbers, a blank line before each model."""
    made = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    made.add_column(title, no_wrap=True)
    made.add_column("figure", no_wrap=True)
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    for number_of, cells in enumerate(lines):
        if cells[0] and number_of:
            made.add_row()
        made.add_row(*cells)
    return made


@dataclass(frozen=True)
class Pair:
    """One figure of the image for speed and of the one for size."""

    model: str
    figure: str
    speed: int | None
    size: int | None

    @property
    def change(self) -> float | None:
        """Of the figure for speed, by what part the other one is larger."""
        return None if not self.speed or self.size is None else self.size / self.speed - 1


PAIRED = {
    "count": "instructions an inference",
    "code": "flash without constants",
    "total": "flash",
    "ram_without_link": FIGURES["ram_without_link"],
}


def pairs(reports: Sequence[Benched]) -> tuple[Pair, ...]:
    """Figures of the models that are there in both forms for the same board and arithmetic."""

    def key(report: Benched) -> tuple[str, ...]:
        return report.model, report.board, report.quantization

    small = {key(report): report for report in reports if report.optimize == "size"}
    found = []
    for report in reports:
        if report.optimize == "speed" and key(report) in small:
            one, other = ({**our_figures(each), "total": each.flash.total} for each in (report, small[key(report)]))
            found += [Pair(report.title, figure, one[figure], other[figure]) for figure in PAIRED]
    return tuple(found)


PAIR_COLUMNS = ("for speed", "for size", "change")


def pair_cells(reports: Sequence[Benched]) -> list[tuple[str, ...]]:
    """The third table: a line a figure."""
    cells: list[tuple[str, ...]] = []
    last = ""
    for one in pairs(reports):
        change = "" if one.change is None else f"{one.change:+.1%}"
        cells.append(
            ("" if one.model == last else one.model, PAIRED[one.figure], number(one.speed), number(one.size), change)
        )
        last = one.model
    return cells


def peer_row(peer: Peer, report: Benched) -> Row:
    figures = peer.figures[report.network]
    macs = report.macs
    per_mac = figures.get("count_per_mac", figures["count"] / macs if macs and "count" in figures else None)
    count = figures.get("count", per_mac * macs if per_mac is not None else None)

    def size(name: str) -> int | None:
        return int(figures[name]) if name in figures else None

    return Row(
        model=report.model,
        who=peer.name,
        ours=False,
        count=count,
        per_mac=per_mac,
        flash=size("flash"),
        ram=size("ram"),
        arena=size("arena"),
        init_count=size("init_count"),
        times=count / report.count if count and report.count and report.unit == peer.unit else None,
        unit=peer.unit,
        accuracy="",
    )


def table(reports: Sequence[Benched]) -> Table:
    """For a terminal; `against ours` says how many times our count the peer needs."""
    made = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    made.add_column("model")
    made.add_column("system", no_wrap=True)
    for name in COLUMNS:
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("against ours", justify="right", no_wrap=True)
    made.add_column("outputs", no_wrap=True)
    last = ""
    for row in rows(reports):
        if row.ours and last:
            made.add_row()
        cells = row_cells(row)
        against = "" if row.times is None else f"{row.times:.2f} x"
        made.add_row(
            row.model if row.ours else "",
            Text(row.who, style="bold" if row.ours else ""),
            *cells,
            against,
            row.accuracy,
        )
        last = row.model
    return made


def row_cells(row: Row) -> tuple[str, ...]:
    """Under `COLUMNS`: what was counted carries its unit."""
    per_mac = "" if row.per_mac is None else f"{row.per_mac:.2f}"
    return (
        counted(row.count, row.unit),
        per_mac,
        *map(number, (row.flash, row.ram, row.arena)),
        counted(row.init_count, row.unit),
    )


def counted(value: float | None, unit: str) -> str:
    return "" if value is None else f"{number(value)} {unit}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def figure_tables(reports: Sequence[Benched]) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """What is asked, and speed beside size, where there is something to show: title, columns, lines."""
    both = (("int8", ASKED_COLUMNS, asked_cells(reports)), ("speed and size", PAIR_COLUMNS, pair_cells(reports)))
    return [one for one in both if one[2]]


def text(reports: Sequence[Benched]) -> str:
    """The table in plain lines."""
    console = Console(file=io.StringIO(), width=200, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table(reports))
        for title, columns, lines in figure_tables(reports):
            console.print()
            console.print(figure_table(title, columns, lines))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def markdown(reports: Sequence[Benched]) -> str:
    """The same tables for docs/bench.md."""
    lines = [f"| model | system | {' | '.join(COLUMNS)} | outputs |", "|---|---|" + "---:|" * len(COLUMNS) + "---|"]
    for row in rows(reports):
        cells = row_cells(row)
        name = (f"**{row.model}**", f"**{row.who}**") if row.ours else ("", row.who)
        lines.append(f"| {' | '.join((*name, *cells, row.accuracy))} |")
    for title, columns, figures in figure_tables(reports):
        lines += ["", f"| {title} | figure | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
        lines += [f"| {' | '.join((f'**{cells[0]}**' if cells[0] else '', *cells[1:]))} |" for cells in figures]
    return "\n".join(lines) + "\n"
