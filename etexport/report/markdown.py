"""A report as Markdown, for the summary of a CI run."""

from __future__ import annotations

from etexport.judge.against_float import signal_line
from etexport.report.profile import slowest, unit_of
from etexport.report.report import Report, lost_bits
from etexport.report.summary import accuracy_line, error_line

_LISTED = 6


def markdown(report: Report) -> str:
    """A heading, a table of facts, and the slowest operators where they were counted."""
    unit = unit_of(report.counter)
    facts: list[tuple[str, str]] = []
    if (compare := report.compare) is not None:
        agree = f"all {compare.samples} samples agree with {compare.against}"
        if compare.mismatched:
            agree = f"**{compare.mismatched} of {compare.samples} samples differ from {compare.against}**"
        facts += [("outputs", agree), ("accuracy", accuracy_line(compare)), ("error", error_line(compare))]
        if lost_bits(report):
            facts.append(("signal", signal_line(compare.against_float, compare.snr_missing)))
    if report.exact is not None:
        facts.append(("operators", str(report.exact)))
    facts += [("warning", warning) for warning in report.warnings]
    if report.count is not None:
        facts.append(("inference", f"{report.count:,} {unit}"))
    if report.init_count is not None:
        facts.append(("start-up", f"{report.init_count:,} {unit}"))
    facts.append(("counted by", report.counter))
    facts.append(("flash", f"{report.flash.total:,} bytes, {report.flash.constants:,} of them constants"))
    facts.append(("RAM", f"{report.ram.total:,} bytes, {report.ram.arena:,} of them arena"))
    facts.append(("program", f"`{report.program_hash}`"))
    lines = [
        f"### {_cell(report.model)} {report.quantization} on {_cell(report.board)} ({_cell(report.core)})",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {_cell(value)} |" for name, value in facts]
    if listed := slowest(report.ops, _LISTED):
        lines += ["", f"| operator | {unit} | share | kernel | source |", "|---|---:|---:|---|---|"]
        lines += [
            f"| {_cell(one.op.name)} | {one.op.count:,} | {one.fraction:.1%} | {_cell(one.op.kernel)} | "
            f"{_cell(one.op.source)} |"
            for one in listed
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A name of a script in a table of Markdown."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
