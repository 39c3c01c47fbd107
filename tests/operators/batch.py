"""Many samples as one program: one instruction each, tensors as inputs or constants, every result an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from etexport.kernel.node import Node, node_of
from etexport.program.model import Array, DType, Instruction, Method, Program, Ref, Role, TensorSpec, Value

from .cases import Sample, Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """`inputs` in the method's order; `results[i]` are the positions among the method's outputs of sample i's
    results."""

    program: Program
    samples: tuple[Sample, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[Array, ...]
    results: tuple[tuple[int, ...], ...]


class _Builder:
    """The values and instructions so far."""

    def __init__(self, stored: bool = False) -> None:
        self.stored = stored
        self.values: dict[int, Value] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.instructions: list[Instruction] = []

    def value(self, name: str, spec: TensorSpec, role: Role, data: Array | None = None) -> int:
        number = len(self.values)
        self.values[number] = Value(number, f"{name}_{number}", spec, role, data)
        return number

    def operand(self, arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(self.operand(item) for item in arg)
        if not isinstance(arg, Tensor):
            return arg
        spec = TensorSpec(arg.of.dtype, arg.of.shape, arg.of.dim_order or ())
        if arg.of.constant:
            return Ref(self.value("constant", spec, Role.CONSTANT, arg.data))
        if self.stored:
            return Ref(self.value("stored", spec, Role.STATE, arg.data))
        number = self.value("input", spec, Role.INPUT)
        self.inputs.append(number)
        return Ref(number)


def batch(samples: Sequence[Sample], cast: Sequence[DType | None] = (), *, stored: bool = False) -> Batch:
    """The program of these samples. `cast` names the element type of a result where no argument does (layout and type
    conversion). `stored`: operands are states that nobody writes, whose content is in the image, since a byte takes a
    simulator's serial port longer (0.1 ms) than a kernel takes for it."""
    builder = _Builder(stored)
    inputs: list[Array] = []
    positions: list[tuple[int, ...]] = []
    for at, sample in enumerate(samples):
        positions.append(_append(builder, sample, at, cast[at] if at < len(cast) else None, inputs))
    method = Method(
        "forward", builder.values, tuple(builder.instructions), tuple(builder.inputs), tuple(builder.outputs)
    )
    own = [instruction for instruction in method.instructions if instruction.name.startswith("case")]
    nodes = tuple(node_of(method, instruction, sample.op) for instruction, sample in zip(own, samples, strict=True))
    return Batch(Program((method,)), tuple(samples), nodes, tuple(inputs), tuple(positions))


def _append(builder: _Builder, sample: Sample, at: int, cast: DType | None, inputs: list[Array]) -> tuple[int, ...]:
    op = sample.op
    schema = op.signature
    operands: list[Any] = []
    outs: list[int] = []
    for parameter, arg in zip(schema.parameters, sample.args, strict=True):
        if parameter.name in schema.outs:  # written in place, as by copy_: a state
            spec = TensorSpec(arg.of.dtype, arg.of.shape, arg.of.dim_order or ())
            outs.append(builder.value("state", spec, Role.STATE, arg.data))
            operands.append(Ref(outs[-1]))
        else:
            operands.append(builder.operand(arg))
            if not builder.stored:
                inputs.extend(_data_of((arg,)))
    assert len(inputs) == len(builder.inputs), f"{len(inputs)} arrays for {len(builder.inputs)} inputs"
    instruction = Instruction(op.name, tuple(operands), tuple(outs), at, f"case{at}")
    outs = outs or _outputs(builder, sample, instruction, cast)
    builder.instructions.append(replace(instruction, outs=tuple(outs)))
    outs = _with_epilogue(builder, sample, at, outs, inputs)
    first = len(builder.outputs)
    builder.outputs.extend(outs)
    return tuple(range(first, first + len(outs)))


def _with_epilogue(builder: _Builder, sample: Sample, at: int, outs: list[int], inputs: list[Array]) -> list[int]:
    """Further instructions on the first result, for fusion to take in."""
    first, *others = outs
    if sample.residual is not None:
        residual = builder.value("residual", TensorSpec(DType.FLOAT32, sample.residual.shape), Role.INPUT)
        builder.inputs.append(residual)
        inputs.append(sample.residual)
        first = _then(builder, "aten::add.out", at, first, (Ref(residual), 1))
    if sample.bounds is not None:
        first = _then(builder, "aten::hardtanh.out", at, first, sample.bounds)
    return [first, *others]


def _then(builder: _Builder, op: str, at: int, before: int, args: tuple[Any, ...]) -> int:
    builder.values[before] = replace(builder.values[before], role=Role.ACTIVATION)
    out = builder.value("result", builder.values[before].spec, Role.OUTPUT)
    builder.instructions.append(Instruction(op, (Ref(before), *args), (out,), at, f"{op[6:-4]}{at}"))
    return out


def _data_of(args: tuple[Any, ...]) -> list[Array]:
    found: list[Array] = []
    for arg in args:
        if isinstance(arg, tuple):
            found.extend(_data_of(arg))
        elif isinstance(arg, Tensor) and not arg.of.constant:
            found.append(arg.data)
    return found


def infer(sample: Sample, cast: DType | None = None) -> tuple[tuple[DType, tuple[int, ...]], ...]:
    """What the operator's own rule says about the results; its ModelError where the arguments are illegal."""
    builder = _Builder()
    _append(builder, sample, 0, cast, [])
    method = Method("forward", builder.values, tuple(builder.instructions), (), ())
    return tuple(
        (dtype, tuple(shape)) for dtype, shape in sample.op.infer(node_of(method, method.instructions[0], sample.op))
    )


def _outputs(builder: _Builder, sample: Sample, instruction: Instruction, cast: DType | None) -> list[int]:
    """Values for the results, with the specs that the operator infers; a result that takes its type from the output has
    `cast`."""
    op = sample.op
    placeholder = TensorSpec(cast or DType.FLOAT32, ())
    trial = dict(builder.values)
    outs = []
    for name in op.signature.outs:
        number = len(trial)
        trial[number] = Value(number, name, placeholder, Role.OUTPUT)
        outs.append(number)
    method = Method("forward", trial, (), (), ())
    inferred = op.infer(node_of(method, replace(instruction, outs=tuple(outs)), op))
    return [builder.value("result", TensorSpec(dtype, tuple(shape)), Role.OUTPUT) for dtype, shape in inferred]
