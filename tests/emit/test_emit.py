"""The generated sources, compiled and run on this machine as a user's own firmware would use them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # toy.py

import toy

from etexport.emit import emit
from etexport.kernel.call import Call
from etexport.program.model import DType, Instruction
from etexport.resources import root
from etexport.specialise.schedule import CallStep
from tests.plan.oracle import in_ram

HERE = Path(__file__).parent
HASH = 0x0123456789ABCDEF
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


def build_and_run(folder: Path, image: np.ndarray, **options: object) -> tuple[list[np.ndarray], ...]:
    """Emit for the host, compile with main.cpp, run twice: (logits, memory, taps) of each run."""
    optimize = options.pop("optimize", "speed")
    offsets = options.pop("offsets", None)
    emit(
        (toy.placed(optimize, offsets),),
        toy.HOST,
        toy.LIBRARY,
        program_hash=HASH,
        model_name="toy",
        out=folder,
        **options,
    )
    includes = [f"-I{path}" for path in (folder, root() / "firmware", toy.KERNELS)]
    sources = [HERE / "main.cpp", folder / "program.cpp", folder / "constants.S"]
    subprocess.run(["g++", *FLAGS, *includes, f"-Wa,-I{folder}", *sources, "-o", folder / "toy"], check=True)
    done = subprocess.run(
        [folder / "toy"], input=np.vstack([image, image]).astype(np.float32).tobytes(), capture_output=True, check=True
    )
    found = np.frombuffer(done.stdout, np.float32)
    assert found.size == 26
    return tuple([run[:4], run[4:10], run[10:]] for run in (found[:13], found[13:]))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("poison", [False, True])
def test_generated_program_computes_the_model(tmp_path: Path, image: np.ndarray, optimize: str, poison: bool) -> None:
    logits, memory = toy.expected(image)
    for run in build_and_run(tmp_path, image, optimize=optimize, poison=poison):
        np.testing.assert_allclose(run[0], logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(run[1], memory.reshape(6), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(run[2], toy.TAPS)


FORGED = [
    {"column": 72},  # over image: both are live in step 0
    {"double": 48},  # over column, live in step 1
    {"memory": 40},  # state over what comes and goes
    {"add.scratch": 84},  # scratch over an operand
    {"logits": 8},  # output over the state that it is computed from
]


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("offsets", FORGED, ids=[next(iter(case)) for case in FORGED])
def test_poison_shows_a_forged_overlap(
    tmp_path: Path, image: np.ndarray, offsets: dict[str, int], optimize: str
) -> None:
    logits, memory = toy.expected(image)
    run = build_and_run(tmp_path, image, poison=True, offsets=offsets, optimize=optimize)[0]
    same = np.allclose(run[0], logits, rtol=1e-5, atol=1e-5) and np.allclose(
        run[1], memory.reshape(6), rtol=1e-5, atol=1e-5
    )
    assert not same, "the overlap went unnoticed"


def test_allowed_overlap_is_left_alone(tmp_path: Path) -> None:
    from etexport.emit.poison import poison
    from etexport.plan.problem import Buffer, Overlap, Problem, Solution

    buffers = (Buffer("x", 64, ((0, 2),)), Buffer("y", 64, ((1, 3),)))
    solution = Solution(in_ram({"x": 0, "y": 0}), {"ram": 64}, {"ram": 64})
    steps = toy.placed().specialised.schedule.steps[:3]
    allowed = poison(Problem(buffers, overlaps=(Overlap("x", "y", 0),)), solution, steps, {0: frozenset({"x"})})
    assert allowed.before[1] == () and allowed.after[1] == ()
    forged = poison(Problem(buffers), solution, steps, {0: frozenset({"x"})})
    assert forged.before[1] and forged.after[1]


def test_equal_constants_share_bytes_and_keep_their_names(tmp_path: Path) -> None:
    emit((toy.placed(),), toy.HOST, toy.LIBRARY, program_hash=HASH, model_name="toy", out=tmp_path)
    symbols = {
        entry["symbol"]: entry for entry in json.loads((tmp_path / "memory.json").read_text())["constants"]["symbols"]
    }
    assert symbols["toy_taps"]["offset"] == symbols["toy_same_taps"]["offset"]
    assert all(entry["offset"] % 16 == 0 for entry in symbols.values())
    content = (tmp_path / "constants.bin").read_bytes()
    at = symbols["toy_fc_weight"]["offset"]
    assert content[at : at + toy.FC.nbytes] == toy.FC.tobytes()


def test_what_another_constant_begins_with_is_stored_once() -> None:
    """Rows of padding: each as long as the widest image that needs its value."""
    from etexport.emit.constants import ALIGN, _Writer

    writer = _Writer("net")
    contents = [bytes([7]) * 40, bytes([7]) * 100, b"", bytes([7]) * 64 + b"x", bytes([9]) * 3, bytes([7]) * 40]
    for at, content in enumerate(contents):
        writer.add(f"pad_{at}", DType.INT8, content, "")
    constants, stored = writer.placed()
    assert [stored[one.offset : one.offset + one.size] for one in constants] == contents
    assert len(stored) == 112 + 80 + 3 and all(one.offset % ALIGN == 0 for one in constants)


def test_memory_map_says_what_lives_where_and_why(tmp_path: Path) -> None:
    emit((toy.placed(),), toy.HOST, toy.LIBRARY, program_hash=HASH, model_name="toy", out=tmp_path)
    found = json.loads((tmp_path / "memory.json").read_text())
    assert found["arena"] == {
        "size": 128, "bound": 120, "gap": 8, "optimal": False, "proof": "by hand", "io": 48 + 16 + 24, "state": 24,
        "scratch": 24,
    }  # fmt: skip
    assert found["methods"][0]["wires"] == [
        ["image", 0], ["memory", 2], [0, 1], [1, 2], [2, "memory"], [2, 3], [3, "logits"],
    ]  # fmt: skip
    step = found["steps"][1]
    assert (step["handle"], step["name"], step["kernel"], step["source"]) == (5, "fc", "toy_linear", "toy.py:15")
    assert step["bytes_constants"] == toy.FC.nbytes
    why = {entry["name"]: entry["why"] for entry in step["live"]}
    assert why == {
        "memory": "state, kept for ever; kept as an output of the model",
        "column": "read here; made by column (step 0)",
        "double": "written here; kept for add (step 2)",
    }
    assert found["program_hash"] == f"{HASH:016x}"


def test_steps_that_share_a_kernel_share_a_case_of_the_table(tmp_path: Path) -> None:
    """Both linears: one passes no bias, the other does. Their geometry is two objects of one type, as narrow as its
    values allow."""
    emit((toy.placed("size"),), toy.ARM, toy.LIBRARY, program_hash=HASH, model_name="toy", out=tmp_path)
    text = (tmp_path / "program.cpp").read_text()
    assert text.count("et::toy_linear(") == text.count("et::toy_column(") == text.count("et::toy_add(") == 1
    assert "kCalls[] = {0, 1, 2, 1};" in text
    assert (
        "  uint8_t in;\n  uint8_t out;\n  float low;\n};" in text
        and "static constexpr float high = __builtin_inff();" in text
    )
    assert "toy_logits_bias" in text and "nullptr," in text


def test_a_negative_or_large_value_widens_the_field_for_all_of_its_type() -> None:
    from etexport.emit.cpp import declared, literal
    from etexport.emit.geometry import geometry

    def step(**fields: int) -> CallStep:
        return CallStep(Instruction("toy::op.out", (), (), 0, "op"), Call("op", "op.h", fields, ()))

    found = geometry({0: step(a=1, b=255, c=0, d=-(2**31)), 1: step(a=-1, b=256, c=-300, d=7)}, "size")
    (struct,) = found.structs
    assert struct.constants == ()
    assert [declared(member) for member in struct.fields] == ["int8_t a", "uint16_t b", "int16_t c", "int32_t d"]
    assert [literal(member) for member in found.instances[0].fields] == ["1", "255", "0", "-2147483647 - 1"]


def test_what_all_steps_of_a_kernel_have_in_common_is_constant() -> None:
    from etexport.emit.cpp import literal
    from etexport.emit.geometry import geometry

    def step(name: str, **fields: int | tuple[int, ...]) -> CallStep:
        return CallStep(Instruction("toy::op.out", (), (), 0, name), Call("op", "op.h", fields, ()))

    same = {"rows": 1, "sizes": (3, 4)}
    found = geometry(
        dict(enumerate(step(name, **same, n=n) for name, n in (("one", 5), ("two", 6), ("again", 5)))), "size"
    )
    (struct,) = found.structs
    assert [(member.name, literal(member)) for member in struct.constants] == [("rows", "1"), ("sizes", "{3, 4}")]
    assert [member.name for member in struct.fields] == ["n"] and len(found.instances) == 2
    assert found.of_step[0] == found.of_step[2] != found.of_step[1]
    assert geometry({0: step("one", **same)}, "size").of_step[0].instance == "", "nothing differs: no object"


def test_same_input_gives_same_bytes(tmp_path: Path) -> None:
    for board, optimize in itertools.product((toy.HOST, toy.ARM, toy.RISCV), ("speed", "size")):
        one, two = (
            emit(
                (toy.placed(optimize),),
                board,
                toy.LIBRARY,
                program_hash=HASH,
                model_name="toy",
                out=tmp_path / board.name / optimize / name,
            )
            for name in ("one", "two")
        )
        assert [path.name for path in one] == [path.name for path in two]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))
        assert ("link.ld" in {path.name for path in one}) == (board is not toy.HOST)


@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_only_a_marked_program_has_marks(tmp_path: Path, optimize: str) -> None:
    emit((toy.placed(optimize),), toy.HOST, toy.LIBRARY, program_hash=HASH, model_name="toy", out=tmp_path)
    plain, marked = ((tmp_path / file).read_text().splitlines() for file in ("program.cpp", "marked.cpp"))
    more = [line for line in marked[1:] if line not in plain]
    assert more and all(
        "probe" in line or "trace" in line or "ET_TRACE" in line or "kResults" in line or "{" in line for line in more
    )
    assert not [line for line in plain if "probe" in line or "trace" in line.lower() or "kResults" in line]
    assert [line for line in plain[1:] if line not in marked] == []


def test_names_that_cpp_does_not_allow() -> None:
    from etexport.emit.names import comment, identifier, unique

    assert identifier("float") == "float_"
    assert identifier("9-to-5") == "n9_to_5"
    taken: set[str] = set()
    assert [unique("x", taken), unique("x", taken), unique("__x", taken)] == ["x", "x_2", "x_3"]
    assert not comment("x = 1 \\").endswith("\\")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1f"),
        (-0.0, "-0.0f"),
        (1e-45, "1e-45f"),
        (float("inf"), "__builtin_inff()"),
        (1e300, "__builtin_inff()"),
        (3.0, "3.0f"),
    ],
)
def test_float_literals_read_back_as_the_same_float32(value: float, text: str) -> None:
    from etexport.emit.cpp import float_literal

    assert float_literal(value) == text
