"""`report.html`: one self-contained page about one report. No script, no font, no address outside the file. Its style
is `page.css.j2`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from etexport.artifacts.memory import MemoryMap
from etexport.judge.against_float import WARN_BELOW_DB, decibels, signal_line
from etexport.judge.compare import Comparison
from etexport.report.chart import chart
from etexport.report.code import by_kernel, of_layer
from etexport.report.graph import graph
from etexport.report.profile import lost, shares, unit_of
from etexport.report.report import Report, allowance, estimate, judge, lost_bits
from etexport.report.summary import error_line, method_line
from etexport.report.template import render


@dataclass(frozen=True)
class Card:
    """A figure with its unit and a line that says how it came about."""

    title: str
    figure: str
    unit: str
    note: str
    tone: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar; `percent` of the whole bar, `colour` 1 .. 6."""

    name: str
    size: int
    percent: float
    colour: int
    note: str = ""


@dataclass(frozen=True)
class Bar:
    title: str
    total: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class OperatorRow:
    """`known` and `above` are percent of the bars' width: what the best known rate would take, and what is taken beyond
    it."""

    number: int
    name: str
    op: str
    kernel: str
    variant: str
    source: str
    code: str
    count: str
    share: str
    known: float | None
    above: float
    per_mac: str
    best: str
    lost: str
    constants: str


@dataclass(frozen=True)
class KernelRow:
    kernel: str
    functions: str
    code: str
    constants: str
    layers: str


@dataclass(frozen=True)
class LayerRow:
    """`signal` is percent of the ruler, which ends at the best layer; `lost` the decibels lost since the step before.

    On a ruler of its own, in percent, int8 reaches from `reach_left` over `reach_width`, and the network uses
    `range_left` over `range_width`."""

    name: str
    source: str
    signal: float
    signal_text: str
    lost: str
    range_text: str
    reach_left: float
    reach_width: float
    range_left: float
    range_width: float
    beyond: bool
    saturated: str


@dataclass(frozen=True)
class SampleRow:
    sample: int
    error: str
    share: float
    share_text: str
    wrong: bool
    board_class: str
    eager_class: str
    label: str


def page(
    report: Report,
    memory: MemoryMap,
    comparison: Comparison | None,
    picture: str,
    provenance: Sequence[tuple[str, str]],
) -> str:
    """The HTML text. `picture` is the memory picture as an SVG element, `provenance` pairs of a word and what it
    was."""
    return render(
        "report.html.j2",
        report=report,
        cards=cards(report),
        accuracy=accuracy_bars(report),
        graphs=graphs(report, memory),
        picture=Markup(picture),
        bars=(flash_bar(report), ram_bar(report)),
        operators=operator_rows(report, memory),
        lost=lost_line(report, unit_of(report.counter)),
        unit=unit_of(report.counter),
        signal=signal_line(report.compare.against_float, report.compare.snr_missing)
        if report.compare and lost_bits(report)
        else "",
        outputs=output_rows(report),
        layers=layer_rows(report),
        loss=Markup(chart([one.name for one in report.quality], [one.snr_db for one in report.quality], "dB")),
        flash=Markup(flash_by_layer(report, memory)),
        kernels=kernel_rows(report, memory),
        confusion=confusion_rows(report),
        methods=[method_line(one, unit_of(report.counter)) for one in report.methods],
        samples=sample_rows(comparison),
        provenance=provenance,
        peak=peak_line(memory),
        judge=judge(report.compare) if report.compare else "",
        allowance=allowance_sentence(report),
    )


def graphs(report: Report, memory: MemoryMap) -> list[tuple[str, Markup]]:
    """The picture of each method."""
    taken = {share.op.handle: f"{share.fraction:.1%}" for share in shares(report.ops)}
    return [(method.name, Markup(graph(memory, method, taken))) for method in memory.methods]


def flash_by_layer(report: Report, memory: MemoryMap) -> str:
    """Bars of constants, and on them the code that a step alone runs."""
    code = of_layer(report.code)
    calls = [step for step in memory.steps if step.kind == "call"]
    return chart(
        [step.name for step in calls],
        [step.bytes_constants for step in calls],
        "bytes of constants",
        [code.get(step.step, 0) for step in calls],
    )


def kernel_rows(report: Report, memory: MemoryMap) -> tuple[KernelRow, ...]:
    """What each kernel takes in flash, the largest first."""
    return tuple(
        KernelRow(
            kernel=one.kernel,
            functions=_listed([f"{name} {size:,}" for name, size in one.functions]),
            code=f"{one.code:,}",
            constants=f"{one.constants:,}" if one.constants else "",
            layers=_listed(one.layers),
        )
        for one in (by_kernel(report.code, memory.steps) if report.code else ())
    )


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def cards(report: Report) -> tuple[Card, ...]:
    unit = unit_of(report.counter)
    found = []
    if report.compare is not None:
        compare = report.compare
        good = compare.mismatched == 0
        found.append(
            Card(
                f"Agreement with {compare.against}",
                f"{compare.samples - compare.mismatched} / {compare.samples}",
                "samples",
                error_line(compare),
                "good" if good else "bad",
            )
        )
    float_network = report.compare.against_float if report.compare is not None and lost_bits(report) else None
    if report.compare is not None and float_network is not None and not report.compare.snr_missing:
        low = float_network.lowest.snr_db
        tone = "" if low >= WARN_BELOW_DB else "bad"
        figure = (
            f"{float_network.snr_db:.1f}" if math.isfinite(float_network.snr_db) else decibels(float_network.snr_db)
        )
        found.append(Card("Signal to noise", figure, "dB", f"against float PyTorch, on {float_network.on}", tone))
    if report.count is not None:
        per_mac = (
            f"{report.count_per_mac:.2f} a multiply-accumulate" if report.count_per_mac else "no multiply-accumulates"
        )
        found.append(
            Card("One inference", f"{report.count:,}", unit, "; ".join(filter(None, (per_mac, estimate(report)))))
        )
    found.append(
        Card(
            "Flash",
            f"{report.flash.total:,}",
            "bytes",
            f"code {report.flash.total - report.flash.constants:,}, weights and tables {report.flash.constants:,}",
        )
    )
    found.append(
        Card("RAM", f"{report.ram.total:,}", "bytes", f"{report.ram.total_without_link:,} under a main of your own")
    )
    plan = report.plan
    against = "no plan can be smaller" if plan.optimal else f"at most {plan.gap:,} above the least"
    found.append(Card("Arena", f"{plan.arena:,}", "bytes", f"lower bound {plan.bound:,}: {against}"))
    if report.init_count is not None:
        found.append(Card("Start-up", f"{report.init_count:,}", unit, "from reset until the board answers"))
    return tuple(found)


MOST_CLASSES = 30
"""A matrix of more is no picture."""


@dataclass(frozen=True)
class Share:
    """A field of the matrix: how many samples, and of all with its label what part."""

    count: int
    of_label: float
    right: bool


def confusion_rows(report: Report) -> tuple[tuple[Share, ...], ...]:
    """For each label how many of its samples got each class on the board."""
    matrix = report.compare.confusion if report.compare is not None else ()
    if not 1 < len(matrix) <= MOST_CLASSES:
        return ()
    return tuple(
        tuple(Share(count, count / max(sum(row), 1), label == at) for at, count in enumerate(row))
        for label, row in enumerate(matrix)
    )


@dataclass(frozen=True)
class OutputRow:
    name: str
    signal: str
    worst: str
    place: str


def output_rows(report: Report) -> tuple[OutputRow, ...]:
    """Each real output of an int8 network against the float network's."""
    found = report.compare.against_float if report.compare is not None and lost_bits(report) else None
    return tuple(
        OutputRow(
            f"{one.output} {one.name}",
            decibels(one.snr_db),
            f"{one.max_abs_error:.4g}: {one.got:.4g} for {one.expected:.4g}",
            f"sample {one.sample}" + (f" [{', '.join(map(str, one.index))}]" if one.index else ""),
        )
        for one in (found.outputs if found is not None else ())
    )


def allowance_sentence(report: Report) -> str:
    """What is allowed, and where that comes from."""
    if report.compare is None:
        return ""
    if report.compare.tolerance_lsb is not None:
        return (
            f"{allowance(report.compare).capitalize()} of the output's quantisation: the square root of the number of "
            "requantisations, "
            "each of which may round to the neighbour, and at least 2."
        )
    return (
        f"{allowance(report.compare).capitalize()}: 2e-6 for one operation, growing with the square root of the number "
        "of terms added up "
        "from input to output."
    )


def accuracy_bars(report: Report) -> tuple[tuple[str, float], ...]:
    """(who, fraction) where the samples have labels."""
    compare = report.compare
    if compare is None or compare.accuracy is None or compare.accuracy_eager is None:
        return ()
    return (("board", compare.accuracy), (judge(compare), compare.accuracy_eager))


def stacked(title: str, sizes: Sequence[tuple[str, int, str]]) -> Bar:
    total = sum(size for _, size, _ in sizes)
    parts = [
        Part(name, size, 100.0 * size / total if total else 0.0, 1 + number % 6, note)
        for number, (name, size, note) in enumerate(sizes)
        if size
    ]
    return Bar(title, total, tuple(parts))


def flash_bar(report: Report) -> Bar:
    flash = report.flash
    return stacked(
        "Flash",
        (
            ("constants", flash.constants, "weights, biases, tables"),
            ("kernels", flash.kernels, "kernels and generated code"),
            ("runtime", flash.runtime, "start-up, serial link, drivers"),
            ("libc", flash.libc, "C library and libgcc"),
        ),
    )


def ram_bar(report: Report) -> Bar:
    ram = report.ram
    within = f"of which inputs and outputs {ram.io:,}, state {ram.state:,}, scratch {ram.scratch:,}"
    return stacked(
        "RAM",
        (
            ("arena", ram.arena, within),
            ("stack", ram.stack, "reserved; the bound is below"),
            ("static", ram.static, ".data and .bss outside the arena"),
        ),
    )


def operator_rows(report: Report, memory: MemoryMap) -> tuple[OperatorRow, ...]:
    """One row a step, in order of execution. The longest bar is the slowest operator's."""
    by_handle = {share.op.handle: share for share in shares(report.ops)}
    code = {step.handle: step.code for step in memory.steps}
    longest = max((share.op.count or 0 for share in by_handle.values()), default=0)
    rows = []
    for number, op in enumerate(report.ops):
        share = by_handle.get(op.handle)
        rate = share.per_mac if share else None
        best = share.best_per_mac if share else None
        above = share.lost if share else None
        known = None if op.count is None or not longest else op.count - max(above or 0, 0)
        rows.append(
            OperatorRow(
                number=number,
                name=op.name,
                op=op.op,
                kernel=op.kernel.split(" ")[0],
                variant=op.kernel.partition("(")[2].rstrip(")"),
                source=op.source,
                code=code.get(op.handle, ""),
                count="" if op.count is None else f"{op.count:,}",
                share="" if share is None else f"{share.fraction:.1%}",
                known=None if known is None else 100.0 * known / longest,
                above=100.0 * max(above or 0, 0) / longest if longest else 0.0,
                per_mac="" if rate is None else f"{rate:.2f}",
                best="" if best is None else f"{best:.2f}",
                lost="" if above is None else f"{above:+,}",
                constants=f"{op.bytes_constants:,}" if op.bytes_constants else "",
            )
        )
    return tuple(rows)


def lost_line(report: Report, unit: str) -> str:
    """Where time is lost, in a sentence; nothing where no best is known."""
    found = lost(report.ops, 3)
    if found is None:
        return ""
    where = ", ".join(f"{share.op.name} {share.lost:,}" for share in found.most)
    return f"{found.count:,} {unit} ({found.fraction:.0%}) are above the best known" + (
        f", most of them in {where}." if where else "."
    )


def layer_rows(report: Report) -> tuple[LayerRow, ...]:
    """Where the accuracy of an int8 network goes, in order of execution."""
    loudest = max((one.snr_db for one in report.quality if math.isfinite(one.snr_db)), default=0.0)
    rows = []
    before = math.inf
    for one in report.quality:
        left, right = min(one.low, one.least), max(one.high, one.most)
        span = right - left or 1.0
        rows.append(
            LayerRow(
                name=one.name,
                source=one.source,
                signal=100.0
                if one.snr_db == math.inf
                else 100.0 * max(0.0, one.snr_db) / loudest
                if loudest > 0
                else 0.0,
                signal_text=f"{one.snr_db:.1f}" if math.isfinite(one.snr_db) else "exact" if one.snr_db > 0 else "lost",
                lost=f"{before - one.snr_db:+.1f}" if math.isfinite(before) and math.isfinite(one.snr_db) else "",
                range_text=f"{one.low:.3g} … {one.high:.3g}",
                reach_left=100.0 * (one.least - left) / span,
                reach_width=100.0 * (one.most - one.least) / span,
                range_left=100.0 * (one.low - left) / span,
                range_width=100.0 * (one.high - one.low) / span,
                beyond=one.saturated > 0,
                saturated=f"{one.saturated:.3%}" if one.saturated else "",
            )
        )
        before = one.snr_db
    return tuple(rows)


def sample_rows(comparison: Comparison | None) -> tuple[SampleRow, ...]:
    """The worst samples; `share` is percent of what is allowed, cut at 100."""
    if comparison is None:
        return ()

    def text(number: int | None) -> str:
        return "" if number is None else str(number)

    return tuple(
        SampleRow(
            sample=worst.sample,
            error=f"{worst.max_abs_error:.3g}",
            share=min(100.0, 100.0 * worst.share),
            share_text=f"{worst.share:.1%}",
            wrong=worst.share > 1.0,
            board_class=text(worst.got_class),
            eager_class=text(worst.expected_class),
            label=text(worst.label),
        )
        for worst in comparison.worst
    )


def layer_names(memory: MemoryMap) -> dict[str, str]:
    """What a buffer is called for people: an activation like the step that writes it first, which in int8 is called
    after the layer."""
    return {
        buffer.name: memory.steps[buffer.live[0][0]].name
        for buffer in memory.buffers
        if buffer.role == "activation" and buffer.live and buffer.live[0][0] < len(memory.steps)
    }


def peak_line(memory: MemoryMap) -> str:
    """Which step needs most, and what lives then."""
    if not memory.steps:
        return ""
    peak = max(memory.steps, key=lambda step: step.bytes_live)
    where = f" ({peak.source})" if peak.source else ""
    largest = sorted(peak.live, key=lambda buffer: -buffer.size)[:4]
    names = layer_names(memory)
    live = ", ".join(f"{names.get(buffer.name, buffer.name)} {buffer.size:,}" for buffer in largest)
    return f"Most is needed in step {peak.step}, {peak.name}{where}: {peak.bytes_live:,} bytes: {live}."
