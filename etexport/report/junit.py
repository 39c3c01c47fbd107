"""A verdict as JUnit XML, for the pages of a CI server: one suite a build, with board and program in it."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as xml

from etexport.judge.against_float import signal_line
from etexport.judge.verdict import Verdict


def junit(judged: Verdict, properties: Mapping[str, str], at_least_db: float | None) -> bytes:
    """Cases: `outputs` (they agree), `operators` (each agrees with exact arithmetic; skipped, with the reason, where
    none was computed again), `signal` (as far from the float network as is allowed; only where there is a limit).
    `properties` say of which build."""
    comparison, exact = judged.comparison, judged.exact
    name = f"{properties['model']} on {properties['board']}"
    cases = [
        _case(name, "outputs", str(comparison.first_difference) if comparison.mismatched else "", _outputs(judged))
    ]
    if exact is not None:
        cases.append(_case(name, "operators", f"first wrong is {exact.first_wrong}" if exact.wrong else "", str(exact)))
    elif judged.missing:
        cases.append(_case(name, "operators", "", "", skipped=judged.missing))
    if at_least_db is not None:
        found, missing = comparison.against_float, comparison.snr_missing
        short = missing or found is None or found.snr_db < at_least_db
        line = signal_line(found, missing)
        cases.append(_case(name, "signal", f"less than {at_least_db:g} dB: {line}" if short else "", line))
    suite = xml.Element("testsuite", name=name, tests=str(len(cases)), errors="0")
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    listed = xml.SubElement(suite, "properties")
    for key, value in properties.items():
        xml.SubElement(listed, "property", name=key, value=_plain(value))
    suite.extend(cases)
    whole = xml.Element("testsuites")
    whole.append(suite)
    xml.indent(whole)
    content: bytes = xml.tostring(whole, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _outputs(judged: Verdict) -> str:
    comparison = judged.comparison
    agreeing = comparison.samples - comparison.mismatched
    return (
        f"{agreeing} of {comparison.samples} samples agree with {comparison.against}, largest error "
        f"{comparison.max_abs_error:.3g}"
    )


def _case(suite: str, name: str, failed: str, told: str, skipped: str = "") -> xml.Element:
    case = xml.Element("testcase", classname=suite, name=name)
    if failed:
        xml.SubElement(case, "failure", message=_plain(failed))
    if skipped:
        xml.SubElement(case, "skipped", message=_plain(skipped))
    if told:
        xml.SubElement(case, "system-out").text = _plain(told)
    return case


def _plain(text: str) -> str:
    """What XML may hold: a name in a script may have other letters."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
