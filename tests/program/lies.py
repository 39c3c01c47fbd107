"""Programs that lie: the parts of good programs exchanged, encoded, and taken through the whole target side.

What comes out is a program's sources or an EtError; whatever else is a fault of ours.

    python -m tests.program.lies [COUNT] [SEED]       what `./sconsw fuzz` runs; prints every fault with the number that
                                                      makes it again
"""

from __future__ import annotations

import copy
import functools
import itertools
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from etexport.board import Board, load_board
from etexport.emit import emit
from etexport.errors import EtError, InternalError
from etexport.kernel.call import Target
from etexport.kernel.library import Library, load_ops
from etexport.passes import pipeline
from etexport.plan import plan, validate
from etexport.program import pte, wire
from etexport.program.model import JUMP_FALSE, MOVE, DType, Instruction, Method, Program, Value, substitute
from etexport.specialise import memory
from etexport.specialise.model import Placed, Specialised
from etexport.specialise.pipeline import specialise
from tests.operators.batch import batch
from tests.operators.boards import bench
from tests.operators.cases import documented
from tests.pace import pace
from tests.program.programs import PROGRAMS
from tests.specialise.graph import Graph

SEED = 20261130
TARGETS = (
    Target(frozenset({"host"})),
    Target(frozenset({"host"}), "size"),
    Target(frozenset({"arm", "dsp", "fpu"})),
    Target(frozenset({"arm"}), "size", "tflm"),
    Target(frozenset({"riscv"})),
)
LIES_EACH = 20
SECONDS = 5.0
SPREAD = 64
TOGETHER = 3
"""Calls of operators in one program, at most: some cases of one or several families, side by side."""

Table = dict[str, Any]
"""A method's plan as `wire` has it."""


# ---- good programs ---------------------------------------------------------------------------------------------------


def good(draw: random.Random) -> bytes:
    """The file of a program in which nothing is wrong."""
    kind = draw.random()
    if kind < 0.1:
        return pte.write(PROGRAMS[draw.choice(sorted(PROGRAMS))])
    if kind < 0.5:
        return pte.write(quantised(draw))
    names = [draw.choice(_sampled()) for _ in range(draw.randint(1, TOGETHER))]
    return pte.write(batch([draw.choice(_samples(name)) for name in names]).program)


@functools.cache
def _sampled() -> tuple[str, ...]:
    return tuple(sorted(name for name, op in load_ops().ops.items() if op.cases))


@functools.cache
def _samples(name: str) -> tuple[Any, ...]:
    """Its documented cases, but for large ones, which take their time and show nothing more."""
    found = [
        one
        for one in documented(load_ops().ops[name])
        if sum(arg.data.size for arg in one.args if hasattr(arg, "data")) < 3000
    ]
    return tuple(found) or documented(load_ops().ops[name])[:1]


def quantised(draw: random.Random) -> Program:
    """A network between quantise and dequantise: layers with weights of one scale or one a channel, activations, a
    residual, a pool, a norm, a concatenation, as its draw has it."""
    graph = Graph(load_ops())

    def stored(x: Any, bits: tuple[Any, ...] = (-128, 127, DType.INT8.code)) -> Any:
        params = (draw.choice((0.02, 0.05)), draw.choice((0, -128, 3)), *bits)
        return graph.call(
            "quantized_decomposed::dequantize_per_tensor.out",
            graph.call("quantized_decomposed::quantize_per_tensor.out", x, *params), *params, None,
        )  # fmt: skip

    def weight(*shape: int) -> Any:
        rng = np.random.default_rng(draw.randrange(99))
        data = graph.constant(rng.integers(-127, 128, shape).astype(np.int8))
        if draw.random() < 0.3:
            return graph.call(
                "quantized_decomposed::dequantize_per_tensor.out", data, 0.01, 0, -127, 127, DType.INT8.code, None
            )
        scales = graph.constant(rng.uniform(0.005, 0.02, shape[0]).astype(np.float32))
        zeros = graph.constant(np.zeros(shape[0], np.int64))
        return graph.call(
            "quantized_decomposed::dequantize_per_channel.out", data, scales, zeros, 0, -127, 127, DType.INT8.code, None
        )

    x = stored(graph.input(1, 4, 6, 6))
    for _ in range(draw.randint(1, 4)):
        x = stored(_layer(draw, graph, x, weight, stored))
    features = graph.values[x.id].spec.numel
    if features < 400 and draw.random() < 0.6:
        x = stored(graph.view(x, 1, features))
        flat = graph.call("aten::permute_copy.out", weight(5, features), (1, 0))
        x = stored(graph.call("aten::addmm.out", graph.weight(5), x, flat, 1, 1))
        if draw.random() < 0.5:
            x = stored(graph.call("aten::_softmax.out", x, 1, False))
    return graph.program(x)


def _layer(draw: random.Random, graph: Graph, x: Any, weight: Callable[..., Any], stored: Callable[..., Any]) -> Any:
    shape = graph.values[x.id].spec.shape
    channels = shape[1]
    match draw.randrange(10):
        case 0 | 1:
            groups, outs = draw.choice(((1, 6), (1, 4), (channels, channels)))
            one = (weight(outs, channels // groups, 3, 3), draw.choice((None, graph.weight(outs))))
            args = ((1, 1), (draw.choice((0, 1)),) * 2, (1, 1), False, (0, 0), groups) if min(shape[2:]) > 2 else None
            return graph.call("aten::convolution.out", x, *one, *args) if args else graph.relu(x)
        case 2:
            return graph.call(
                draw.choice(("aten::relu.out", "aten::sigmoid.out", "aten::tanh.out", "aten::abs.out")), x
            )
        case 3:
            return graph.call(draw.choice(("aten::add.out", "aten::sub.out")), x, stored(graph.relu(x)), 1)
        case 4:
            return graph.call("aten::mul.out", x, stored(graph.call("aten::sigmoid.out", x)))
        case 5:
            return graph.call("aten::cat.out", (x, stored(graph.relu(x))), 1)
        case 6:
            if min(shape[2:]) < 2:
                return graph.relu(x)
            if draw.random() < 0.5:
                return graph.call("aten::avg_pool2d.out", x, (2, 2), (2, 2), (0, 0), False, True, None)
            return graph.call("aten::max_pool2d_with_indices.out", x, (2, 2), (2, 2), (0, 0), (1, 1), False)
        case 7:
            return graph.call("aten::mean.out", x, (2, 3), True, None)
        case 8:
            ones = graph.weight(shape[-1])
            return graph.call("aten::native_layer_norm.out", x, (shape[-1],), ones, ones, 1e-5)
        case _:
            constants = [graph.constant(np.abs(graph.values[graph.weight(channels).id].data) + 0.1) for _ in range(4)]  # type: ignore[arg-type]
            return graph.call("aten::_native_batch_norm_legit_no_training.out", x, *constants, 0.1, 1e-5)


# ---- lies ------------------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 64, 127, -128, 128, 255, 256, 1000, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63))
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 1e-45, 3e38, 1e300, float("inf"), float("-inf"), float("nan"))


def lie(draw: random.Random, plan: Table, constants: int) -> None:
    """One lie more in the method."""
    tensors = [value["val"][1] for value in plan["values"] if value["val"][0] == "Tensor"]
    calls = [one["instr_args"][1] for one in plan["chains"][0]["instructions"] if one["instr_args"][0] == "KernelCall"]
    if not tensors or not calls:
        return
    one, other = draw.choice(tensors), draw.choice(tensors)
    match draw.randrange(12):
        case 0:
            _resize(one, _bent(draw, one["sizes"]))
        case 1:
            _resize(one, other["sizes"])
        case 2:
            one["scalar_type"] = draw.choice([dtype.code for dtype in DType])
        case 3:
            one["scalar_type"], other["scalar_type"] = other["scalar_type"], one["scalar_type"]
        case 4:
            one["data_buffer_idx"] = draw.choice((other["data_buffer_idx"], draw.randrange(constants + 1)))
        case 5:
            one["allocation_info"] = copy.deepcopy(other["allocation_info"])
        case 6 | 7 | 8:
            _literal(
                draw, draw.choice([value for value in plan["values"] if value["val"][0] != "Tensor"] or plan["values"])
            )
        case 9:
            _argument(draw, draw.choice(calls), calls, len(plan["values"]))
        case 10:
            if draw.random() < 0.5:
                chain = list(plan["chains"][0]["instructions"])
                draw.shuffle(chain)
                plan["chains"][0]["instructions"] = tuple(chain)
                plan["chains"][0]["stacktrace"] = None
            else:
                draw.choice(calls)["op_index"] = draw.randrange(len(plan["operators"]))
        case _:
            order = list(one["dim_order"])
            draw.shuffle(order)
            one["dim_order"] = bytes(order)


def _bent(draw: random.Random, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """One more, one less, others, another order, or one of them another number."""
    at = draw.randrange(len(sizes) + 1)
    match draw.randrange(5):
        case 0:
            return (*sizes[:at], draw.choice((0, 1, 2, 3)), *sizes[at:])
        case 1:
            return sizes[:-1]
        case 2:
            return sizes[::-1]
        case 3:
            return (int(np.prod(sizes)),)
    at = draw.randrange(max(len(sizes), 1))
    return (*sizes[:at], draw.choice((0, 1, 2, 5, 8, 9, 1000, (sizes[at] if sizes else 1) + 1)), *sizes[at + 1 :])


def _resize(tensor: Table, sizes: tuple[int, ...]) -> None:
    tensor["sizes"] = tuple(sizes)
    if len(tensor["dim_order"]) != len(sizes):
        tensor["dim_order"] = bytes(range(len(sizes)))


def _literal(draw: random.Random, value: Table) -> None:
    kind, content = value["val"]
    if kind == "Int":
        content["int_val"] = draw.choice(
            (*NUMBERS, content["int_val"] + 1, content["int_val"] - 1, -content["int_val"])
        )
        content["int_val"] = max(-(2**63), min(content["int_val"], 2**63 - 1))
    elif kind == "Double":
        content["double_val"] = draw.choice((*REALS, -content["double_val"], content["double_val"] * 1e6))
    elif kind == "Bool":
        content["bool_val"] = not content["bool_val"]
    elif kind == "String":
        content["string_val"] = draw.choice(("", "none", "tanh", "trunc", "floor", "x" * 40))
    elif kind == "Null":
        value["val"] = draw.choice(
            (("Int", {"int_val": 1}), ("Bool", {"bool_val": True}), ("Double", {"double_val": 0.5}))
        )
    elif content.get("items"):
        items = list(content["items"])
        at = draw.randrange(len(items))
        match draw.randrange(4):
            case 0:
                del items[at]
            case 1:
                items.insert(at, draw.choice(items))
            case 2:
                draw.shuffle(items)
            case _:
                items[at] = draw.choice(items) if "List" in kind and kind != "DoubleList" else draw.choice(REALS)
        content["items"] = tuple(items)


def _argument(draw: random.Random, call: Table, calls: list[Table], values: int) -> None:
    """Another value as an argument, two exchanged, or all arguments of another call."""
    args = list(call["args"])
    at = draw.randrange(len(args))
    match draw.randrange(5):
        case 0 | 1:
            args[at] = draw.randrange(values)
        case 2:
            to = draw.randrange(len(args))
            args[at], args[to] = args[to], args[at]
        case 3:
            args[at] = draw.choice(draw.choice(calls)["args"])
        case _:
            args = list(draw.choice(calls)["args"])
    call["args"] = tuple(args)


@functools.lru_cache(4)
def honest(number: int, seed: int) -> wire.Container:
    """The good program that `LIES_EACH` lying ones are made of, taken apart."""
    container = wire.read(good(random.Random(f"{seed} {number}")))
    for one in container.program["execution_plan"]:
        spread(one)
    return container


def lying(number: int, seed: int = SEED) -> bytes:
    """The file with this number."""
    draw = random.Random(seed * 1_000_003 + number)
    container = honest(number // LIES_EACH, seed)
    program = copy.deepcopy(container.program)
    plans = [one for one in program["execution_plan"] if one["chains"] and one["chains"][0]["instructions"]]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        lie(draw, draw.choice(plans), len(program["constant_segment"]["offsets"]))
    segments = [(0, bytes(content)) for content in container.segments]
    return wire.write(program, segments)


def spread(plan: Table) -> None:
    """Room between the tensors, so that one that has become larger does not lie on another."""
    plan["non_const_buffer_sizes"] = tuple(size and SPREAD * (size + 4096) for size in plan["non_const_buffer_sizes"])
    places = [value["val"][1]["allocation_info"] for value in plan["values"] if value["val"][0] == "Tensor"]
    for place in places:
        if place is not None:
            place["memory_offset_low"] *= SPREAD


# ---- what becomes of it ----------------------------------------------------------------------------------------------


def built(data: bytes, target: Target, library: Library) -> Specialised:
    """All of the target side but the compiler; its sources go to a folder that is written again and again."""
    specialised = specialise(pipeline.run(pte.read(data), library), target, library)
    problem = memory.problem(specialised)
    solution = plan(problem)
    validate(problem, solution)
    with tempfile.TemporaryDirectory() as folder:
        emit(
            (Placed(specialised, problem, solution),),
            _host(),
            library,
            program_hash=1,
            model_name="lie",
            out=Path(folder),
        )
    return specialised


@functools.cache
def _host() -> Board:
    return load_board("host")


def fault(number: int, seed: int = SEED) -> str:
    """What goes wrong with the program of this number, in one line; nothing where all is well."""
    return outcome(number, seed)[1]


def outcome(number: int, seed: int = SEED) -> tuple[bytes | None, str]:
    """(the file, where it is accepted; the fault)."""
    started = time.process_time()
    data = lying(number, seed)
    try:
        built(data, TARGETS[number % len(TARGETS)], load_ops())
    except InternalError as error:
        return None, _placed(error.__cause__ or error)
    except EtError as error:
        text = str(error)
        return None, "" if text and "\n\n" not in text else f"an error without words: {error!r}"
    except Exception as error:
        return None, _placed(error)
    seconds = time.process_time() - started
    return data, f"{seconds:.1f} s" if seconds > SECONDS and seconds > SECONDS * pace() else ""


def together(programs: Sequence[Program]) -> Program:
    """One program of all that compute in a straight line."""
    values: dict[int, Value] = {}
    instructions: list[Instruction] = []
    inputs: list[int] = []
    outputs: list[int] = []
    for number, program in enumerate(programs):
        method = program.method()
        if any(one.op in (MOVE, JUMP_FALSE) for one in method.instructions):
            continue
        new = dict(zip(method.values, itertools.count(len(values))))
        values.update(
            (new[id_], replace(one, id=new[id_], name=f"{one.name}_in_{number}")) for id_, one in method.values.items()
        )
        for one in method.instructions:
            args, outs = tuple(substitute(arg, new) for arg in one.args), tuple(new[out] for out in one.outs)
            instructions.append(
                replace(one, args=args, outs=outs, handle=len(instructions), name=f"p{number}_{one.name}")
            )
        inputs += [new[id_] for id_ in method.inputs]
        outputs += [new[id_] for id_ in method.outputs]
    return Program((Method("forward", values, tuple(instructions), tuple(inputs), tuple(outputs)),))


def executed(files: Sequence[bytes], folder: Path) -> None:
    """Accepted programs in one image on the host, with sanitizers: what they compute is their own affair, that they end
    is not."""
    library = load_ops()
    whole = together([pipeline.run(pte.read(data), library) for data in files])
    method, rng = whole.method(), np.random.default_rng(1)
    specs = [method.values[id_].spec for id_ in method.inputs]
    inputs = [np.asarray(rng.uniform(0, 3, spec.shape)).astype(spec.dtype.numpy) for spec in specs]
    host = bench("host", "size", folder, sanitize=True)
    outputs = host.run(specialise(whole, TARGETS[1], library), inputs, library)
    assert len(outputs) == len(method.outputs)


def _placed(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    place = " < ".join(
        f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)
    )
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]} @ {place}"


def main(count: int, seed: int) -> int:
    """Exit code 1 where there is a fault."""
    warnings.simplefilter("error", RuntimeWarning)  # what numpy warns of, a user would be shown
    faults = accepted = 0
    for number in range(count):
        data, said = outcome(number, seed)
        accepted += data is not None
        if said:
            faults += 1
            print(f"{number}: {said}", flush=True)
    print(f"{count} lying programs: {accepted} built, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*given, *(100_000, SEED)[len(given) :]))
