"""`build/bench.json`, a list of reports, and a table of them beside the peers' figures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etexport.errors import ModelError
from etexport.inspect.peers import Peer, peers_of

Json = Mapping[str, Any]

COLUMNS = ("instructions", "a MAC", "flash", "RAM", "arena", "start-up")


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


def read_reports(paths: Sequence[Path]) -> list[Json]:
    """The reports in order; ModelError for a file that is not one."""
    reports: list[Json] = []
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read a report: {error}", where=str(path)) from None
        if not isinstance(report, dict) or "counter" not in report:
            raise ModelError("not a report.json", where=str(path))
        reports.append(report)
    return reports


def bench_json(reports: Sequence[Json]) -> str:
    return json.dumps(list(reports), indent=1, allow_nan=False) + "\n"


def rows(reports: Sequence[Json]) -> tuple[Row, ...]:
    """Each report followed by the peers that ran the same model on the same core."""
    found: list[Row] = []
    for report in reports:
        found.append(our_row(report))
        peers = peers_of(report["core"], report["quantization"], report["model"])
        found.extend(peer_row(peer, report) for peer in peers)
    return tuple(found)


def our_row(report: Json) -> Row:
    compare = report["compare"]
    accuracy = ""
    if compare and compare["accuracy"] is not None:
        accuracy = f"{compare['accuracy']:.1%} (eager {compare['accuracy_eager']:.1%})"
    elif compare:
        accuracy = "as eager" if compare["mismatched"] == 0 else f"{compare['mismatched']} differ"
    return Row(
        model=report["model"],
        who=f"etexport, {report['board']}" + (", size" if report["optimize"] == "size" else ""),
        ours=True,
        count=report["count"],
        per_mac=report["count_per_mac"],
        flash=report["flash"]["total"],
        ram=report["ram"]["total"],
        arena=report["ram"]["arena"],
        init_count=report["init_count"],
        times=None,
        unit=report["counter"].split(" ")[0],
        accuracy=accuracy,
    )


def peer_row(peer: Peer, report: Json) -> Row:
    figures = peer.figures[report["model"]]
    macs = report["macs"]
    per_mac = figures.get("count_per_mac", figures["count"] / macs if macs and "count" in figures else None)
    count = figures.get("count", per_mac * macs if per_mac is not None else None)

    def size(name: str) -> int | None:
        return int(figures[name]) if name in figures else None

    return Row(
        model=report["model"],
        who=peer.name,
        ours=False,
        count=count,
        per_mac=per_mac,
        flash=size("flash"),
        ram=size("ram"),
        arena=size("arena"),
        init_count=size("init_count"),
        times=count / report["count"] if count and report["count"] else None,
        unit=peer.unit,
        accuracy="",
    )


def table(reports: Sequence[Json]) -> Table:
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
        counted = number(row.count) if row.unit == "instructions" else f"{number(row.count)} {row.unit}"
        cells = (
            counted,
            "" if row.per_mac is None else f"{row.per_mac:.2f}",
            *map(number, (row.flash, row.ram, row.arena, row.init_count)),
        )
        against = "" if row.times is None else f"{row.times:.2f} x"
        made.add_row(row.model if row.ours else "", Text(row.who, style="bold" if row.ours else ""), *cells, against, row.accuracy)
        last = row.model
    return made


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def text(reports: Sequence[Json]) -> str:
    """The table in plain lines."""
    console = Console(file=io.StringIO(), width=200, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table(reports))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def markdown(reports: Sequence[Json]) -> str:
    """The same table for docs/bench.md."""
    lines = [f"| model | system | {' | '.join(COLUMNS)} | outputs |", "|---|---|" + "---:|" * len(COLUMNS) + "---|"]
    for row in rows(reports):
        counted = number(row.count) if row.unit == "instructions" else f"{number(row.count)} {row.unit}"
        cells = (
            counted,
            "" if row.per_mac is None else f"{row.per_mac:.2f}",
            *map(number, (row.flash, row.ram, row.arena, row.init_count)),
        )
        name = (f"**{row.model}**", f"**{row.who}**") if row.ours else ("", row.who)
        lines.append(f"| {' | '.join((*name, *cells, row.accuracy))} |")
    return "\n".join(lines) + "\n"
