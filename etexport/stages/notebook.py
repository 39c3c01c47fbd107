"""Python's way in, as notebooks use it: `etexport.build` and `etexport.Board`. Importing it loads no torch; building
does."""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from etexport import board as boards
from etexport.alone import alone_in
from etexport.artifacts.memory import read_memory
from etexport.artifacts.reference import read_samples
from etexport.artifacts.sizes import read_sizes
from etexport.device.counts import measure, run_counts
from etexport.device.hello import Tensor
from etexport.device.link import FaultReported
from etexport.device.run import match
from etexport.device.session import IDENTIFY_S, Attached, Line, attach, session
from etexport.device.wire_log import WireLog
from etexport.errors import DeviceFaultError, ModelError, ToolMissingError
from etexport.judge.verdict import Verdict, require_right
from etexport.program.model import Array
from etexport.project import project_at
from etexport.report.builds import Compared, compared
from etexport.report.profile import shares
from etexport.report.report import Report
from etexport.report.results import memory_picture
from etexport.stages.build import build as build_in
from etexport.stages.check import check_buildable
from etexport.stages.origin import model_name
from etexport.stages.report import report_in
from etexport.stages.run import run_in
from etexport.stages.trace import traced_in
from etexport.stages.verdict import furthest, run_traced

if TYPE_CHECKING:
    from etexport.frontend.script import Network, Tensors


@dataclass(frozen=True, eq=False)
class Built:
    """A network as firmware for one board, and the folders where all of it lies: every verb of the command line works
    there too."""

    name: str
    board: boards.Board
    program: Path
    """`model.pte`; `model.npz` with samples and PyTorch's outputs is beside it."""
    folder: Path
    """Generated C++, `firmware.elf`, and once it ran outputs and `report.html`."""

    def on(self, url: str = "") -> Board:
        """The board with this firmware on it: at a port, else in its simulator or at the port that its USB ids are
        found at."""
        return Board(url, self)

    def run(self, inputs: Any) -> Any:
        """What the board makes of the inputs, as the network would give it: `Board.run`."""
        with self.on() as board:
            return board.run(inputs)

    def validate(self) -> Verdict:
        """The verdict on all samples; MismatchError where outputs differ from PyTorch's, or an operator is wrong."""
        require_right(self._told[1], str(self.folder))
        return self._told[1]

    @property
    def report(self) -> Report:
        """What it takes and how well it does, of all samples on the board: they are run when this is first asked
        for."""
        return self._told[0]

    @functools.cached_property
    def _told(self) -> tuple[Report, Verdict]:
        reference = self.program.with_suffix(".npz")
        with alone_in(self.folder):
            run_in(self.folder, self.board, read_samples(reference, None))
            # another image, which counts each step: to a real board its owner writes it
            if self.board.simulator is not None:
                run_traced(self.folder, reference, self.board, furthest(self.folder, self.program, reference))
            made, _, judged = report_in(self.folder, self.program, self.board)
        assert judged is not None, "export writes samples beside every program"
        return made, judged

    def rows(self) -> list[dict[str, Any]]:
        """One for each operator, in order: `step`, `name`, `op`, `source`, `kernel`, `macs`, `count` (in the unit of
        `report.counter`), `share` of the whole, `bytes_constants`, and of an int8 network `snr_db`, its result against
        the float network's."""
        share = {one.op.handle: one.fraction for one in shares(self.report.ops)}
        signal = {one.handle: one.snr_db for one in self.report.quality}
        return [
            {
                "step": step, "name": op.name, "op": op.op, "source": op.source, "kernel": op.kernel, "macs": op.macs,
                "count": op.count, "share": share.get(op.handle), "bytes_constants": op.bytes_constants,
                "snr_db": signal.get(op.handle),
            }
            for step, op in enumerate(self.report.ops)
        ]  # fmt: skip

    def gaps(self, samples: int = 8) -> list[dict[str, Any]]:
        """A row for each operator: its results on the board against what the program means (docs/look-inside.md)."""
        reference = self.program.with_suffix(".npz")
        assert self._told, "the outputs that a run with traces stands beside"
        with alone_in(self.folder):
            _, rows = traced_in(self.folder, self.program, reference, self.board, samples)
        return [asdict(row) for row in rows]

    def dataframe(self) -> Any:
        """`rows()` as a pandas.DataFrame; ToolMissingError without pandas."""
        try:
            import pandas
        except ImportError:
            raise ToolMissingError(
                "pandas is not installed", hint="pip install pandas; rows() gives the same as a list"
            ) from None
        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """The whole report once it is there, until then what the plan and the linker say."""
        if "_told" in self.__dict__:
            page = (self.folder / "report.html").read_text(encoding="utf-8")
            return f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: 70vh; border: 0"></iframe>'
        memory, sizes = read_memory(self.folder), read_sizes(self.folder)
        ram = sizes.arena + sizes.static.total + sizes.stack
        title = f"<b>{html.escape(self.name)}</b> on {html.escape(self.board.name)}"
        return f"<p>{title}: {sizes.flash.total:,} bytes of flash, {ram:,} of RAM</p>{memory_picture(memory)}"


class Board:
    """A board that runs firmware of etexport, for as long as a `with` block lasts.

    `url` is a port (`/dev/ttyACM0`, `socket://HOST:PORT`) or `qemu://BOARD?elf=FILE`, which starts a simulator. With
    `built` the firmware there must be that one, its own simulator or port is what no `url` means, and a fault names the
    line of the network.
    """

    def __init__(
        self, url: str = "", built: Built | None = None, *, baud: int = 0, reset: bool = False, timeout_s: float = 60.0
    ) -> None:
        self._line, self._built, self._timeout_s = Line(url, baud, reset), built, timeout_s
        self._open = ExitStack()
        self.count: int | None = None
        """What the last run took, in `unit`; None where nothing is counted, or the board is not known here."""
        self.unit = ""

    def __enter__(self) -> Board:
        with ExitStack() as opening:
            if self._built is not None:
                there = opening.enter_context(
                    session(self._built.folder / "firmware.elf", self._built.board, self._line)
                )
                self._link, self._hello, self._url, running = there.link, there.hello, there.url, there.running
            else:
                attached: Attached = opening.enter_context(attach(None, None, self._line))
                self._link = attached.link(opening.enter_context(WireLog(None)))
                self._hello = self._link.describe(self._link.greet(IDENTIFY_S))
                self._url, running = attached.port.url, attached.running
            if running is not None:
                opening.callback(self._link.exit, 0)
            known = self._built.board if self._built is not None else _board_called(self._hello.board)
            self._measure = None if known is None else measure(known, launched=running is not None)
            self._runs = self._hello.runs
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._open.__exit__(kind, error, trace)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Name, type and shape of each, of a program of one method."""
        return self._hello.methods[self._hello.method("")].inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self._hello.methods[self._hello.method("")].outputs

    def run(self, inputs: Any, method: str = "") -> Any:
        """What the board, or this method of its program, makes of `inputs`: an array or tensor, of several inputs a
        tuple. They are shaped as the example inputs were, or have one axis of samples before; where the examples have a
        first axis of 1, that axis may be longer as well. Each sample is one run, in order. Gives an array, of several
        outputs a tuple, with the samples where they were. ModelError for what does not fit."""
        number = self._hello.method(method)
        tensors = self._hello.methods[number].inputs
        samples, gathered = _samples(inputs, tensors)
        results = []
        for at, sample in enumerate(samples):
            self._runs += 1
            try:
                results.append(
                    self._link.run(self._hello, self._runs, match(sample, tensors, at), self._timeout_s, method=number)
                )
            except FaultReported as reported:
                if self._built is not None:  # the session knows the firmware, and names the line
                    raise
                hint = "Board(url, built) names the line of the network"
                raise DeviceFaultError("the board faulted", where=self._url, hint=hint) from reported
        if self._measure is not None:
            counts = run_counts(self._measure, results, self._url)
            self.count, self.unit = counts[-1] if counts else None, self._measure.unit
        outputs = tuple(gathered(column) for column in zip(*(result.outputs for result in results), strict=True))
        return outputs[0] if len(outputs) == 1 else outputs


def build(
    network: Network, example_inputs: Tensors, *, board: str = "qemu_mps2_an386", quantize: str = "float32",
    calibration: Any = None, samples: Any = None, name: str = "", optimize: str = "speed",
    keep_float: Sequence[str] = (), accept: Mapping[str, float] | None = None, int8_io: bool = False,
    channels_last: bool = False, min_snr_db: float | None = None, classes: Sequence[str] | None = None,
    folder: str | Path = "build", kernels: Sequence[str | Path] = (), passes: Sequence[str | Path] = (),
    backends: Sequence[str | Path] = (), delegates: Sequence[str] | Mapping[str, Mapping[str, Any]] = (),
    dynamic_shapes: Any = None,
) -> Built:  # fmt: skip
    """Firmware for `board` (a name of `etexport boards`, or a path to a .toml) from a network in this process, which
    stays as it is.

    `example_inputs` is a tensor or a tuple of them, one for each argument of `forward()`. `quantize` is "float32" or
    "int8"; int8 needs `calibration`, inputs that show the ranges. `samples` are run on the board and compared with
    PyTorch: inputs, or (inputs, labels); without them the examples and random numbers are. `kernels`, `passes` and
    `backends` are folders of your own (docs/kernels.md, docs/delegates.md). `dynamic_shapes` are sizes known at run
    time, as `torch.export` takes them. All of these, and the rest, are as a model script has them (docs/capture.md).

    Below `folder` it writes what `etexport export` and `etexport build` write, at the same places. EtError for whatever
    is wrong.
    """
    from etexport.frontend import export_network

    known = boards.load_board(board)
    if optimize not in ("speed", "size"):
        raise ModelError(f"optimize={optimize!r} is neither 'speed' nor 'size'", where="etexport.build")
    called = model_name(Path(f"{name or type(network).__name__}.pte"), name)
    if Path(called).name != called:
        raise ModelError(f"name={called!r} is no name of a folder", where="etexport.build")
    program = Path(folder) / "model" / f"{called}-{quantize}" / "model.pte"
    said = {
        "quantize": quantize, "calibration": calibration, "samples": samples, "keep_float": keep_float,
        "accept": accept, "int8_io": int8_io, "channels_last": channels_last, "min_snr_db": min_snr_db,
        "classes": classes, "delegates": delegates, "dynamic_shapes": dynamic_shapes,
    }  # fmt: skip
    export_network(
        network,
        example_inputs,
        program,
        check=check_buildable,
        project=project_at(kernels, passes, backends),
        said={key: one for key, one in said.items() if one is not None},
    )
    out = Path(folder) / known.name / f"{called}-{quantize}{'-size' if optimize == 'size' else ''}"
    with alone_in(out):
        build_in(program, board, out, name=called, optimize=optimize)
    return Built(called, known, program, out)


def _board_called(name: str) -> boards.Board | None:
    return boards.load_board(name) if name in boards.board_names() else None


def compare(before: Built | str | Path, after: Built | str | Path) -> Compared:
    """Two builds side by side, as `etexport compare` has them: of one that has no report yet all samples are run.
    ModelError for a path without a report."""
    sides = []
    for one in (before, after):
        if isinstance(one, Built):
            assert one.report, "which writes report.json"
        sides.append(one.folder if isinstance(one, Built) else Path(one))
    return compared(*sides)


def _samples(given: Any, inputs: Sequence[Tensor]) -> tuple[list[tuple[Array, ...]], Any]:
    """The inputs of each run, and what makes one array of an output of all of them."""
    several = given if isinstance(given, (tuple, list)) else (given,)
    arrays = [one.detach().cpu().numpy() if hasattr(one, "detach") else np.asarray(one) for one in several]
    if len(arrays) != len(inputs):
        raise ModelError(
            f"{len(arrays)} inputs where {len(inputs)} belong", where="run", hint="a tuple with an array for each"
        )
    forms = [_form(array.shape, tensor) for array, tensor in zip(arrays, inputs, strict=True)]
    counts = {len(array) for array, form in zip(arrays, forms, strict=True) if form != "one"}
    if None in forms or len(set(forms)) != 1 or len(counts) > 1 or 0 in counts:
        here = ", ".join(str(list(array.shape)) for array in arrays)
        there = ", ".join(map(_sizes, inputs))
        raise ModelError(
            f"inputs of shapes {here} where {there} belong", where="run", hint="or each with an axis of samples before"
        )
    if forms[0] == "one":
        return [tuple(arrays)], lambda column: column[0]
    if forms[0] == "stacked":
        return list(zip(*arrays, strict=True)), np.stack
    rows = [tuple(array[at : at + 1] for array in arrays) for at in range(counts.pop())]
    return rows, lambda column: np.concatenate(column) if column[0].shape[:1] == (1,) else np.stack(column)


def _form(shape: tuple[int, ...], tensor: Tensor) -> str | None:
    """How an array stands to an input: `one` of it, several `stacked` on a further axis, a `batch` along its first one;
    None: not."""
    if tensor.takes(shape):
        return "one"
    if tensor.takes(shape[1:]):
        return "stacked"
    return "batch" if shape and tensor.shape[:1] == (1,) and tensor.takes((1, *shape[1:])) else None


def _sizes(tensor: Tensor) -> str:
    least = tensor.least or tensor.shape
    sizes = (str(most) if low == most else f"{low} to {most}" for low, most in zip(least, tensor.shape, strict=True))
    return f"[{', '.join(sizes)}]"
