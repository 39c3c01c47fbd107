"""A self-contained page of what each layer of an int8 network gains in float. Its style is the report's,
`page.css.j2`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup

from etexport.judge.against_float import decibels
from etexport.report.chart import chart
from etexport.report.template import render


class Row(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def snr_db(self) -> float: ...
    @property
    def gain_db(self) -> float: ...
    @property
    def right(self) -> int | None: ...
    @property
    def count(self) -> int | None: ...


def bisect_page(title: str, judged_on: str, int8_db: float, rows: Sequence[Row]) -> str:
    """The layers in the order of the network; one that loses has no bar."""
    bars = Markup(chart([row.name for row in rows], [row.gain_db for row in rows], "dB"))
    texts = [(row, decibels(row.snr_db), f"{row.gain_db:+.1f}") for row in rows]
    return render("bisect.html.j2", title=title, judged_on=judged_on, int8=decibels(int8_db), bars=bars, rows=texts)
