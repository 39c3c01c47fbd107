"""One terminal screen about one report: what a person wants to know first."""

from __future__ import annotations

import io

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from etexport.judge.against_float import decibels, signal_line
from etexport.judge.replay import Exact
from etexport.report.profile import lost, slowest, unit_of
from etexport.report.report import Compared, MethodFigures, Report, allowance, estimate, judge, lost_bits
from etexport.report.ways import way_line

WIDTH = 100

SHORT = {"instructions": "instr.", "nanoseconds": "ns"}
"""Units where a column is no wider than its numbers."""


def show(report: Report, console: Console | None = None) -> None:
    """Print the summary: with colours and boxes on a terminal, plain lines elsewhere."""
    console = console or Console()
    if console.is_terminal:
        console.print(screen(report))
    else:
        console.file.write(text(report))


def text(report: Report) -> str:
    """The summary without colours, boxes and trailing blanks."""
    plain = Console(file=io.StringIO(), width=WIDTH, no_color=True, highlight=False, force_terminal=False)
    with plain.capture() as capture:
        plain.print(screen(report, boxes=False))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def screen(report: Report, *, boxes: bool = True) -> RenderableType:
    title = f"{report.model} {report.quantization} on {report.board} ({report.core}), optimised for {report.optimize}"
    parts: list[RenderableType] = [facts(report), memory(report), operators(report)]
    if boxes:
        return Panel(Group(*parts), title=Text(title, style="bold"), title_align="left", width=WIDTH)
    return Group(Text(title), *parts)


def facts(report: Report) -> RenderableType:
    table = _grid()
    table.add_column(width=12)
    table.add_column()
    if report.compare is not None:
        table.add_row("outputs", _verdict(report.compare))
        table.add_row("accuracy", Text(accuracy_line(report.compare)))
        table.add_row("error", Text(error_line(report.compare)))
        if report.exact is not None:
            table.add_row("operators", Text(_each(report.exact), style="bold red" if report.exact.wrong else "green"))
        if lost_bits(report):
            table.add_row("signal", Text(signal_line(report.compare.against_float, report.compare.snr_missing)))
        for flag in report.compare.flags:
            table.add_row("note", Text(flag, style="yellow"))
    if report.missing:
        table.add_row("note", Text(report.missing, style="yellow"))
    for warning in report.warnings:
        table.add_row("warning", Text(warning, style="bold yellow"))
    if report.quantization == "int8":
        table.add_row("weakest", Text(_weakest(report)))
    if report.in_float:
        listed = "; ".join(
            f"{one.name} ({one.source}): {one.reason}" if one.source else f"{one.name}: {one.reason}"
            for one in report.in_float[:4]
        )
        more = f"; and {len(report.in_float) - 4} more" if len(report.in_float) > 4 else ""
        table.add_row("in float", Text(listed + more, style="yellow"))
    for way in report.ways[:4]:
        table.add_row("way", Text(way_line(way)))
    unit = unit_of(report.counter)
    if report.count is not None:
        per_mac = (
            f", {report.count_per_mac:.2f} a multiply-accumulate ({report.macs:,})" if report.count_per_mac else ""
        )
        table.add_row("inference", Text(f"{report.count:,} {unit}{per_mac}"))
        if told := estimate(report):
            table.add_row("", Text(told))
    for method in report.methods:
        table.add_row("method", Text(method_line(method, unit), style="bold red" if method.mismatched else ""))
    above = lost(report.ops, 1)
    if above is not None:
        where = f", most in {above.most[0].op.name}" if above.most else ""
        table.add_row(
            "lost", Text(f"{above.count:,} {unit} ({above.fraction:.0%}) above the best known of each operator{where}")
        )
    if report.init_count is not None:
        table.add_row("start-up", Text(f"{report.init_count:,} {unit} from reset to ready"))
    by = report.counter if report.count is not None else f"{report.counter}, not the same twice: timing.json has them"
    table.add_row("counted by", Text(by, style="dim"))
    plan = report.plan
    proof = "optimal" if plan.optimal else f"{plan.gap:,} above it"
    table.add_row("arena", Text(f"{plan.arena:,} bytes; lower bound {plan.bound:,}: {proof}"))
    return table


def _weakest(report: Report) -> str:
    if report.quality:
        weakest = min(report.quality, key=lambda one: one.snr_db)
        return f"{weakest.name} ({weakest.source}): {decibels(weakest.snr_db)} of signal to noise in int8"
    ours = report.compare is not None and report.compare.against == "PyTorch in int8"
    why = (
        "the activations of the float and the int8 network could not be paired"
        if ours
        else "the network came quantised"
    )
    return f"not known: {why}"


def method_line(method: MethodFigures, unit: str) -> str:
    """`decode: 5 calls, 1,204 instructions, at most 1,310; 1 differs`."""
    text = f"{method.name}: {method.calls} call{'s' if method.calls > 1 else ''}"
    if method.count is not None:
        text += f", {method.count:,} {unit}"
        text += f", at most {method.largest:,}" if method.largest != method.count else ""
    return text + (f"; {method.mismatched} differ{'s' if method.mismatched == 1 else ''}" if method.mismatched else "")


def accuracy_line(compare: Compared) -> str:
    parts = []
    if compare.accuracy is not None and compare.accuracy_eager is not None:
        parts.append(f"{compare.accuracy:.1%} on the board, {compare.accuracy_eager:.1%} in {judge(compare)}")
    if compare.same_class is not None and compare.judged:
        others = " not calibrated with" if compare.judged < compare.samples else ""
        parts.append(f"same class in {compare.same_class} of {compare.judged}{others}")
    return "; ".join(parts) or "no labels"


def error_line(compare: Compared) -> str:
    steps = f" ({compare.max_lsb_error} steps of the output)" if compare.max_lsb_error is not None else ""
    return f"largest {compare.max_abs_error:.2g}{steps}; {allowance(compare)}"


def memory(report: Report) -> RenderableType:
    flash, ram = report.flash, report.ram
    table = _grid()
    table.add_column(width=12)
    for _ in range(6):
        table.add_column(justify="right", min_width=11)
    table.add_row(
        "", *(Text(word, style="dim") for word in ("runtime", "kernels", "libc", "these three", "constants", "total"))
    )
    code = (flash.runtime, flash.kernels, flash.libc, flash.total - flash.constants)
    table.add_row("flash bytes", *(f"{part:,}" for part in (*code, flash.constants, flash.total)))
    table.add_row(
        "",
        *(Text(word, style="dim") for word in ("arena", "of which io", "static", "stack", "under own main", "total")),
    )
    parts = (ram.arena, ram.io, ram.static, ram.stack, ram.total_without_link, ram.total)
    table.add_row("RAM bytes", *(f"{part:,}" for part in parts))
    return table


def operators(report: Report, listed: int = 6) -> RenderableType:
    """The slowest operators; nothing where no run with probes was made."""
    lines = [
        (
            share.op.name,
            f"{share.op.count:,}",
            f"{share.fraction:.1%}",
            "" if share.per_mac is None else f"{share.per_mac:.2f}",
            "" if share.best_per_mac is None else f"{share.best_per_mac:.2f}",
            "" if share.lost is None else f"{share.lost:+,}",
            _kernel(share.op.kernel),
            share.op.source,
        )
        for share in slowest(report.ops, listed)
    ]
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    unit = unit_of(report.counter)
    for at, name in enumerate(("slowest", SHORT.get(unit, unit), "share", "a MAC", "best", "lost", "kernel", "source")):
        # where the screen is narrow, names go on below; numbers and lines of the script never do
        whole = 0 < at < 6 or name == "source"
        width = max((len(line[at]) for line in lines if whole), default=0)
        justify: JustifyMethod = "right" if 0 < at < 6 else "left"
        table.add_column(
            name, justify=justify, no_wrap=whole, overflow="fold", min_width=max(width, len(name)) if whole else None
        )
    for line in lines:
        table.add_row(*line)
    return table if table.row_count else Text("")


def _kernel(name: str) -> str:
    """Without a variant that the name ends with by itself."""
    plain, _, variant = name.rstrip(")").partition(" (")
    return plain if variant and plain.endswith(f"_{variant}") else name


def _verdict(compare: Compared) -> Text:
    if compare.mismatched == 0:
        return Text(f"all {compare.samples} samples agree with {compare.against}", style="bold green")
    text = (
        f"{compare.mismatched} of {compare.samples} samples differ from {compare.against}; first: "
        f"{compare.first_difference}"
    )
    return Text(text, style="bold red")


def _each(exact: Exact) -> str:
    return f"{exact}; first wrong: {exact.first_wrong}" if exact.wrong else str(exact)


def _grid() -> Table:
    return Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
