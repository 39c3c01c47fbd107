"""Each integer result, computed again from the operands that the board had: right programs are within half a step of
exact arithmetic, and a planted error in a middle layer is found, and found there, even where the outputs still
agree."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.judge.compare import Traced
from etexport.judge.replay import Replayed, replay, summed_up
from etexport.judge.steps import steps_of
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.kernel.node import node_of
from etexport.plan import plan
from etexport.program import pte
from etexport.program.model import Array, Instruction, Program, Ref, Value
from etexport.specialise.memory import problem
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.pipeline import specialise
from etexport.specialise.schedule import Schedule
from tests.conftest import Int8Net
from tests.frontend.nets import NETS, Net, net_script
from tests.frontend.scripts import read_back
from tests.specialise.interpret import interpret

DEEP = Net(
    ("self.first = nn.Conv2d(3, 8, 3, padding=1)", "self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)",
     "self.third = nn.Conv2d(8, 8, 3, padding=1, groups=8)", "self.fourth = nn.Conv2d(8, 12, 1)",
     "self.pool = nn.AvgPool2d(2)", "self.fc = nn.Linear(48, 5)"),
    ("x = torch.relu(self.first(x))", "x = torch.relu(self.second(x))", "y = F.silu(self.third(x)) + x",
     "y = self.pool(torch.relu(self.fourth(y)) * 0.7)", "return torch.softmax(self.fc(torch.flatten(y, 1)), -1)"),
    (1, 3, 8, 8),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Built:
    program: Program
    specialised: Specialised
    inputs: list[Array]

    def run(self, specialised: Specialised | None = None) -> tuple[Replayed, ...]:
        """What replaying says of the first sample as this specialised program computes it."""
        computed = specialised or self.specialised
        the_problem = problem(computed)
        traced: list[Traced] = []
        by_out = {step.instruction.outs[0]: step.instruction for step in computed.calls.values()}

        def watch(value: Value, result: Array) -> Array:
            if (made := by_out.get(value.id)) is not None:
                data = np.asarray(result, value.spec.dtype.numpy).reshape(value.spec.shape)
                traced.append(Traced(made.handle, made.name, made.source, data))
            return result

        outputs = interpret(Placed(computed, the_problem, plan(the_problem)), load_ops(), self.inputs, watch=watch)
        return replay(self.program.method(), load_ops(), traced, self.inputs, outputs)

    def handles(self) -> set[int]:
        """Of the steps that the program has as well."""
        return {step.instruction.handle for step in self.specialised.calls.values()} & {
            one.handle for one in self.program.method().instructions
        }


def build(pte: Path) -> Built:
    program, arrays = read_back(pte)
    inputs = [arrays[f"input_{at}"][0] for at in range(len(program.method().inputs))]
    return Built(program, specialise(program, Target(frozenset()), load_ops()), inputs)


@pytest.mark.parametrize("more", ["", "int8_io = True\n"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_right_programs_are_right(name: str, more: str, int8_net: Int8Net) -> None:
    built = build(int8_net(NETS[name], more))
    checked = built.run()
    exact = summed_up(checked, built.handles())
    assert exact.proven, exact
    assert any(one.in_steps for one in checked) and max(one.worst for one in checked if one.in_steps) <= 0.52


def test_what_is_moved_into_a_constant_is_computed_again(int8_net: Int8Net) -> None:
    """Circular padding writes into nothing yet: a constant that has no scale of its own, for int8 says it exactly."""
    built = build(
        int8_net(
            Net(
                ("self.conv = nn.Conv1d(4, 3, 3, padding=1, padding_mode='circular')",),
                ("return self.conv(torch.tanh(x))",),
                (1, 4, 8),
            )
        )
    )
    values = built.specialised.method.values
    written = [one.instruction for one in built.specialised.calls.values() if "slice_scatter" in one.instruction.op]
    assert any(values[one.reads[0]].data is not None for one in written), written
    exact = summed_up(built.run(), built.handles())
    assert exact.proven, exact


# ---- planted errors --------------------------------------------------------------------------------------------------

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def deep(int8_net: Int8Net) -> Built:
    return build(int8_net(DEEP))


def planted(built: Built, layer: str, parameter: str, change: Change, library: Library) -> Specialised:
    """The program with one argument of one instruction changed; of constants the content."""
    method = built.specialised.method
    values = dict(method.values)

    def changed(instruction: Instruction) -> Instruction:
        op = library.find(instruction.op)
        assert op is not None
        names = [one.name for one in node_of(method, instruction, op).schema.parameters]
        args = list(instruction.args)
        arg = args[names.index(parameter)]
        if isinstance(arg, Ref):
            data = values[arg.id].data
            assert data is not None
            values[arg.id] = replace(values[arg.id], data=np.asarray(change(data)).astype(data.dtype))
        else:
            args[names.index(parameter)] = change(arg)
        return replace(instruction, args=tuple(args))

    steps = tuple(
        replace(step, instruction=changed(step.instruction)) if step.instruction.name == layer else step
        for step in built.specialised.schedule.steps
    )
    assert steps != built.specialised.schedule.steps, (
        f"{layer} is not among {[step.instruction.name for step in steps]}"
    )
    return replace(built.specialised, method=replace(method, values=values), schedule=Schedule(steps))


def percent(more: float) -> Change:
    def change(number: Any) -> Any:
        scaled = np.rint(np.asarray(number, np.float64) * (1 + more / 100)).astype(np.int64)
        return scaled if isinstance(number, np.ndarray) else int(scaled)

    return change


def one_more(number: Any) -> Any:
    return np.minimum(number.astype(np.int64) + 1, 127) if isinstance(number, np.ndarray) else number + 1


def second_output_half(multipliers: Array) -> Array:
    wrong = multipliers.copy()
    wrong[1] //= 2
    return wrong


@pytest.mark.parametrize(
    ("layer", "parameter", "change"),
    [
        ("second", "requantize_multipliers", percent(1)),
        ("second", "requantize_multipliers", second_output_half),
        ("second", "output_offset", one_more),
        ("second", "input_offset", one_more),
        ("second", "bias", percent(5)),
        ("third", "requantize_multipliers", percent(-1)),
        ("third", "output_offset", one_more),
        ("fourth", "requantize_multipliers", percent(1)),
        ("add", "other_multiplier", percent(1)),
        ("add", "output_zero_point", one_more),
        ("fc", "output_offset", one_more),
        ("fc", "requantize_multipliers", lambda all_of: tuple(round(one * 1.01) for one in all_of)),
        ("pool", "output_zero_point", one_more),
        ("pool", "multiplier", percent(-1)),
        ("mul", "lut", one_more),
    ],
)
def test_planted_errors_are_found_where_they_are(deep: Built, layer: str, parameter: str, change: Change) -> None:
    names = [step.instruction.name for step in deep.specialised.calls.values()]
    name = layer if layer in names else next(one for one in names if one.startswith(f"{layer}_"))
    wrong = [one for one in deep.run(planted(deep, name, parameter, change, load_ops())) if one.wrong]
    assert [one.name for one in wrong] == [name], "nothing after it is wrong by its own operands"
    assert re.match(f"{name} at model.py:.* steps from exact", summed_up(wrong, deep.handles()).first_wrong or "")


@pytest.fixture(scope="module")
def deep_on_host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(program, build folder), as `scons` leaves them before it validates."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    where = tmp_path_factory.mktemp("host")
    program, folder = where / "deep.pte", where / "board"
    assert main(["export", str(net_script(where, DEEP)), "-o", str(program), "--quantize", "int8"]) == 0
    assert main(["build", str(program), "--board", "host", "-o", str(folder)]) == 0
    assert main(["run", str(folder), "--inputs", str(program.with_suffix(".npz")), "--samples", "2"]) == 0
    profiled(program, folder)
    return program, folder


def traced(folder: Path) -> list[int]:
    found: list[int] = json.loads((folder / "profile" / "run.json").read_text())["traced"]
    return found


def profiled(program: Path, folder: Path) -> None:
    build = [
        "build",
        str(program),
        "--board",
        "host",
        "--sources",
        str(folder),
        "--probes",
        "-o",
        str(folder / "profile"),
    ]
    inputs = str(program.with_suffix(".npz"))
    assert main(build) == 0
    assert main(["furthest", str(folder), "--program", str(program)]) == 0
    only = ["--only", str(folder / "furthest.json")]
    assert main(["run", str(folder / "profile"), "--board", "host", "--probes", "--inputs", inputs, *only]) == 0


ALL_AGREE = (
    r"(1\d) of \1 operators agree with exact arithmetic on the board's own operands, integers within 0\.[45]\d* steps\n"
)


@pytest.mark.parametrize("flags", [[], ["--trace"]])
def test_a_board_s_own_results_are_replayed(
    flags: list[str], deep_on_host: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zero point changed by one in the generated code: outputs of the run before still agree, what a new build traces
    tells, be that the run with probes or one of its own."""
    program, folder = deep_on_host[0], tmp_path / "board"
    shutil.copytree(deep_on_host[1], folder)
    figures = folder / "validate.json"
    arguments = ["validate", str(folder), "--program", str(program), "-o", str(figures), *flags]
    capsys.readouterr()
    assert main(arguments) == 0
    assert re.search(ALL_AGREE, capsys.readouterr().out)
    steps = json.loads((folder / "memory.json").read_text())["steps"]
    exact = json.loads(figures.read_text())["exact"]
    assert exact["checked"] == exact["operators"] == sum("dim_order" not in step["op"] for step in steps)
    figures.unlink()

    source = folder / "marked.cpp"
    text = source.read_text()
    changed, count = re.subn(
        r"(struct ThirdGeometry \{[^}]*\bzero_point = )(-?\d+)", lambda found: f"{found[1]}{int(found[2]) + 1}", text
    )
    assert count == 1
    source.write_text(changed)
    if not flags:
        (folder / "profile" / "run.json").unlink()  # it is made anew where it is not of this image
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    (third,) = (step for step in steps if step["name"] == "third")
    assert f"first wrong is third at {third['source']}" in said and "more are wrong" not in said
    assert not figures.exists()


def test_the_report_tells_of_a_wrong_operator(deep_on_host: tuple[Path, Path], tmp_path: Path) -> None:
    program, folder = deep_on_host[0], tmp_path / "board"
    shutil.copytree(deep_on_host[1], folder)
    report = ["report", str(folder), "--program", str(program), "--quiet"]
    assert main(report) == 0
    right = json.loads((folder / "report.json").read_text())["exact"]
    assert right["wrong"] == 0 and right["checked"] == right["operators"] >= 10 and right["worst_lsb"] < 0.56
    trace = folder / "profile" / "trace.npz"
    with np.load(trace) as read:
        arrays = {name: read[name] for name in read.files}
    steps = json.loads((folder / "memory.json").read_text())["steps"]
    second = next(step for step in steps if step["name"] == "second")
    name = f"step_{second['step']}_0_of_{traced(folder)[0]}"
    arrays[name] = arrays[name] + np.uint8(2)
    np.savez(trace, **arrays)
    assert main(report) == 0
    wrong = json.loads((folder / "report.json").read_text())["exact"]
    assert wrong["wrong"] >= 1 and wrong["first_wrong"].startswith(f"second at {second['source']}: ")
    trace.write_bytes(b"nothing")
    assert main(report) == 1
    run = folder / "profile" / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"program_hash": "0" * 16}))
    assert main(report) == 0, "the trace is another program's: one is made"
    assert json.loads((folder / "report.json").read_text())["exact"] == right


def test_outputs_that_are_not_pytorch_s_are_no_rounding(
    deep_on_host: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch's output for sample 1 moved by one step more than is allowed: every operator of the board is right, and
    the program is not PyTorch's. The board's own outputs changed: the run that was traced left others."""
    shutil.copytree(deep_on_host[1], tmp_path / "board")
    folder, program, samples = tmp_path / "board", tmp_path / "deep.pte", tmp_path / "deep.npz"
    shutil.copy(deep_on_host[0], program)
    with np.load(deep_on_host[0].with_suffix(".npz")) as read:
        arrays = {name: read[name] for name in read.files}
    steps = steps_of(pte.read(program.read_bytes()).method(), load_ops())
    assert steps is not None and isinstance(steps.sizes[0], float)
    outputs = dict(np.load(folder / "outputs.npz"))
    arguments = ["validate", str(folder), "--program", str(program)]

    def moved(by: float) -> int:
        arrays["output_0"] = outputs["output_0"].copy()
        arrays["output_0"].reshape(len(outputs["output_0"]), -1)[1, 0] += by * float(steps.sizes[0] or 0)
        arrays["float_output_0"] = arrays["output_0"]
        np.savez(samples, **arrays)
        profiled(program, folder)
        assert traced(folder) == [1]
        return main(arguments)

    assert moved(steps.allowed - 0.5) == 0
    assert moved(steps.allowed + 0.5) == 2
    assert "sample 1, output 0" in capsys.readouterr().err
    outputs["output_0"].reshape(len(outputs["output_0"]), -1)[1, 1] += float(steps.sizes[0])
    np.savez(folder / "outputs.npz", **outputs)
    assert main(arguments) == 2, "the outputs are not those that were computed again"
