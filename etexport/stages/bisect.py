"""What each layer of a network costs in int8: asked of PyTorch, or of a board with an image for each layer."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from etexport.artifacts.reference import read_samples
from etexport.artifacts.runs import read_run
from etexport.board import Board
from etexport.errors import ModelError
from etexport.judge.folder import question_of
from etexport.judge.verdict import by_outputs
from etexport.report.bisect import bisect_page
from etexport.stages.build import build as build_in
from etexport.stages.check import check_buildable
from etexport.stages.run import run_in

if TYPE_CHECKING:
    from etexport.frontend.quantize.layers import Bisected, Figure, Layer
    from etexport.frontend.script import Network, Tensors

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """A layer alone in float: `snr_db` of the output that has least of it (of a softmax or sigmoid at the end what it
    reads), `gain_db` over int8 throughout, `output_db` of the outputs themselves; `right` labelled samples, `count` of
    a run on the board."""

    name: str
    snr_db: float
    gain_db: float
    output_db: float
    right: int | None
    count: int | None


def bisect(
    network: Network | str | Path, example_inputs: Tensors | None = None, *, calibration: Any = None,
    samples: Any = None, keep_float: Sequence[str] = (), progress: Progress = print,
) -> list[Row]:  # fmt: skip
    """A row for each layer of a network, or of that of a model script, the one that gains most in float first; in
    PyTorch. The words are those of `build`. EtError for whatever is wrong."""
    from etexport.frontend import bisect as bisect_script
    from etexport.frontend import bisect_network

    if isinstance(network, (str, Path)):
        return rows(bisect_script(Path(network), None, progress))
    if example_inputs is None:
        raise ModelError("a network needs example_inputs", where="etexport.bisect", hint="bisect(net, x[:1], ...)")
    said = {"quantize": "int8", "calibration": calibration, "samples": samples, "keep_float": keep_float}
    given = {key: one for key, one in said.items() if one is not None}
    return rows(bisect_network(network, example_inputs, given, progress))


def on_board(
    found: Bisected, script: Path, weights: Path | None, board: Board, at: str, most: int | None, progress: Progress
) -> Bisected:
    """The same with the board's figures, of the `most` layers that gain most in PyTorch; `at` is its name or file."""
    from etexport.frontend import export

    if board.simulator is None:
        hint = "without --board PyTorch is asked, which gives the same within the boards' rounding"
        raise ModelError("an image for each layer is written to no real board", where=board.name, hint=hint)
    chosen = found.by_gain[:most]

    def figure(names: tuple[str, ...]) -> Figure:
        progress(f"{', '.join(names) or 'none'} in float on {board.name}")
        with TemporaryDirectory() as folder:
            program, out = Path(folder) / "model.pte", Path(folder) / "built"
            export(script, program, weights=weights, quantize="int8", in_float=names, check=check_buildable)
            build_in(program, at, out, name="model")
            run_in(out, board, read_samples(program.with_suffix(".npz"), None))
            return _figure(out, program)

    layers = tuple(replace(one, figure=figure((one.name,))) for one in found.layers if one in chosen)
    return replace(found, int8=figure(()), layers=layers)


def _figure(folder: Path, program: Path) -> Figure:
    from etexport.frontend.quantize.layers import Figure

    told = by_outputs(question_of(folder, program))
    counters = read_run(folder).counters
    ratio = math.nan if told.against_float is None else told.against_float.lowest.snr_db
    right = None if told.accuracy is None else round(told.accuracy * told.judged)
    return Figure(ratio, ratio, right, counters[0] if counters else None)


def rows(found: Bisected) -> list[Row]:
    """The layer first that gains most."""
    return [_row(found, one) for one in found.by_gain]


def _row(found: Bisected, layer: Layer) -> Row:
    figure = layer.figure
    return Row(layer.name, figure.snr_db, found.gain_db(layer), figure.output_db, figure.right, figure.count)


def table(rows: Sequence[Row]) -> str:
    """As CSV."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    columns = list(Row.__dataclass_fields__)
    lines.writerow(columns)
    lines.writerows([getattr(row, column) for column in columns] for row in rows)
    return text.getvalue()


def picture(found: Bisected, title: str) -> str:
    """A page with what each layer gains, in the order of the network."""
    inside = [_row(found, one) for one in found.layers]
    return bisect_page(title, found.judged_on, found.int8.snr_db, inside)
