"""Operators that give elements of their operands and nothing else (`Op.carries`): in int8 stored values take the same
way.

Dequantisations sink and quantisations rise through them, so that they stand right before and behind what computes. Some
compare (a maximum, the indices of one): stored values are in the order of the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from etexport.kernel.op import Layout
from etexport.kernel.quantized import Quantized, QuantizedOutput
from etexport.program.model import Arg, Array, DType, Instruction, Ref, TensorSpec, substitute
from etexport.program.operators import DEQUANTIZE_CHANNELS, PAD, PERMUTE, VIEW
from etexport.specialise.integer_graph import Graph, quantise_array

PAD_FILL = 2
"""Which argument of a padding is the value round the elements."""

SEARCHES = frozenset({"aten::argmax.out", "aten::argmin.out"})
"""Operators that only compare elements of their first operand."""


# ---- dequantisations sink --------------------------------------------------------------------------------------------


def sink(graph: Graph, instruction: Instruction) -> tuple[Instruction, ...]:
    """move(dequantise(q), ...) as dequantise(move(q, ...)), or nothing where that cannot be."""
    sources = graph.carried(instruction)
    if instruction.op in SEARCHES:
        sources = tuple(arg for arg in instruction.args[:1] if isinstance(arg, Ref))
    source = next((one for one in sources if graph.quantized(one) is not None), None)
    known = graph.quantized(source) if source is not None else None
    if source is None or known is None or not _takes(graph, instruction, known.value.spec.dtype):
        return ()
    dequantise = graph.made_by[source.id]
    if dequantise.op == DEQUANTIZE_CHANNELS:
        return _sink_channels(graph, instruction, dequantise, known)
    stored = _stored(graph, sources, known)
    fill = _exactly(known, np.asarray(instruction.args[PAD_FILL])) if instruction.op == PAD else None
    if stored is None or (instruction.op == PAD and fill is None):
        return ()
    args = tuple(substitute(arg, stored) for arg in instruction.args)
    move = replace(instruction, args=args if fill is None else _filled(args, int(fill)))
    return (move,) if instruction.op in SEARCHES else _dequantised(graph, move, dequantise, dequantise.args[1:], known)


def _sink_channels(
    graph: Graph, instruction: Instruction, dequantise: Instruction, known: Quantized
) -> tuple[Instruction, ...]:
    """A weight with a scale for each index of a dimension: a permutation keeps that, and a view in which the dimension
    is still one."""
    axis = _moved_axis(graph, instruction, known)
    if axis is None:
        return ()
    move = replace(instruction, args=(Ref(known.value.id), *instruction.args[1:]))
    return _dequantised(graph, move, dequantise, (*dequantise.args[1:3], axis, *dequantise.args[4:]), known)


def _moved_axis(graph: Graph, instruction: Instruction, known: Quantized) -> int | None:
    """Which dimension of the result has the scales, if one has."""
    before, after = known.value.spec.shape, graph.spec(Ref(instruction.outs[0])).shape
    if known.axis is None:
        return None
    if instruction.op == PERMUTE:
        dims = instruction.args[1]
        assert isinstance(dims, tuple)
        return [int(str(dim)) % len(dims) for dim in dims].index(known.axis)
    if instruction.op != VIEW or [size for size in before if size != 1] != [size for size in after if size != 1]:
        return None
    if before[known.axis] == 1:  # one scale: the layer with one output, whose weight is as good as transposed
        ones = [at for at, size in enumerate(after) if size == 1]
        return known.axis if known.axis in ones else next(iter(ones), None)
    rank = sum(size != 1 for size in before[: known.axis])
    return [at for at, size in enumerate(after) if size != 1][rank]


def _dequantised(
    graph: Graph, move: Instruction, dequantise: Instruction, args: tuple[Arg, ...], known: Quantized
) -> tuple[Instruction, ...]:
    """The movement of stored values, on the host where they are constants, and the dequantise behind it."""
    out = graph.values[move.outs[0]]
    done = replace(dequantise, outs=(out.id,), handle=graph.handle())
    op = graph.op(move)
    contents = {value: graph.constant(Ref(value)) for value in move.reads}
    if (
        op is not None
        and op.reference is not None
        and len(move.outs) == 1
        and all(one is not None for one in contents.values())
    ):
        moved = graph.add_constant(
            known.value.name, np.asarray(op.reference(*(_plain(arg, contents) for arg in move.args)))
        )
        return (replace(done, args=(moved, *args)),)
    spec = TensorSpec(known.value.spec.dtype, out.spec.shape, qparams=known.value.spec.qparams)
    moved = Ref(graph.add_value(f"{out.name}_q", spec).id)
    return replace(move, outs=(moved.id, *move.outs[1:])), replace(done, args=(moved, *args))


def _plain(arg: Arg, contents: dict[int, Array | None]) -> object:
    if isinstance(arg, Ref):
        return contents[arg.id]
    return tuple(_plain(item, contents) for item in arg) if isinstance(arg, tuple) else arg


def _stored(graph: Graph, sources: Sequence[Ref], like: Quantized) -> dict[int, int] | None:
    """The integers behind each operand, if all have the type and the scale of `like`; a real constant that they can say
    exactly does."""
    found: dict[int, int] = {}
    for source in sources:
        known, content = graph.quantized(source), graph.constant(source)
        if known is not None and known.axis is None:
            if (known.value.spec.dtype, known.scale, known.zero_point) != (
                like.value.spec.dtype,
                like.scale,
                like.zero_point,
            ):
                return None
            found[source.id] = known.value.id
            continue
        integers = _exactly(like, content) if content is not None and known is None else None
        if integers is None:
            return None
        found[source.id] = graph.add_constant(f"{graph.values[source.id].name}_q", integers).id
    return found


def _exactly(like: Quantized, real: Array) -> Array | None:
    """The stored values that these real ones are, if there are such: the zero point for zero."""
    dtype = like.value.spec.dtype.numpy
    if real.dtype.kind not in "fiub" or dtype.kind not in "iu" or not np.all(np.isfinite(real)):
        return None
    limits = np.iinfo(dtype)
    stored = np.rint(real.astype(np.float64) / like.scale) + like.zero_point
    with np.errstate(over="ignore"):
        exact = (stored - like.zero_point).astype(np.float32) * np.float32(like.scale) == real.astype(np.float32)
    return stored.astype(dtype) if np.all(exact & (limits.min <= stored) & (stored <= limits.max)) else None


# ---- quantisations rise ----------------------------------------------------------------------------------------------


def rise(graph: Graph, quantise: Instruction) -> tuple[Instruction, ...]:
    """quantise(move(x, ...)) as move(quantise(x), ...), or nothing where nothing is moved; a clamp behind the movement
    comes before the quantise, for it is the kernel's."""
    operand = quantise.args[0]
    assert isinstance(operand, Ref)
    clamps, made = behind_clamps(graph, operand)
    sources = graph.carried(made) if made is not None else ()
    out = graph.output(quantise)
    if made is None or not sources or not _takes(graph, made, out.spec.dtype) or not is_read_once(graph, made):
        return ()
    op = graph.op(made)
    # what is computed keeps the name of the result, and the handle by which it is traced, where nothing but a view lies
    # between
    is_view = op is not None and op.layout is Layout.VIEW
    name = f"{graph.values[quantise.outs[0]].name}_q" if is_view else ""
    steps: list[Instruction] = []
    stored: dict[int, int] = {}
    for source in dict.fromkeys(sources):
        real = source
        for clamp in clamps:
            args = (real, *clamp.args[1:])
            real = Ref(graph.add_value(graph.values[clamp.outs[0]].name, graph.spec(source)).id)
            graph.read[real.id] = 1
            steps.append(replace(clamp, args=args, outs=(real.id,), handle=graph.handle()))
        spec = TensorSpec(out.spec.dtype, graph.spec(source).shape, qparams=out.spec.qparams)
        integers = graph.add_value(name or f"{graph.values[source.id].name}_q", spec)
        steps.append(
            replace(
                quantise,
                args=(real, *quantise.args[1:]),
                outs=(integers.id,),
                handle=quantise.handle if is_view else graph.handle(),
            )
        )
        stored[source.id] = integers.id
    move_args = tuple(substitute(arg, stored) for arg in made.args)
    if made.op == PAD:
        move_args = _filled(move_args, _stored_fill(graph, move_args[PAD_FILL], clamps, out))
    graph.values[quantise.outs[0]] = replace(graph.values[quantise.outs[0]], spec=out.spec)
    unread = (graph.add_value(graph.values[further].name, graph.values[further].spec).id for further in made.outs[1:])
    outs = (*quantise.outs, *unread)
    return *steps, replace(made, args=move_args, outs=outs, handle=graph.handle() if is_view else quantise.handle)


def behind_clamps(graph: Graph, operand: Ref) -> tuple[list[Instruction], Instruction | None]:
    """The clamps that make a value, the first one first, and what makes the operand of that; each result is read
    once."""
    clamps: list[Instruction] = []
    made = graph.made_by.get(operand.id)
    while made is not None and graph.clamp(made) is not None and graph.read[made.outs[0]] == 1:
        clamps.insert(0, made)
        source = made.args[0]
        assert isinstance(source, Ref)
        made = graph.made_by.get(source.id)
    return clamps, made


def is_read_once(graph: Graph, made: Instruction) -> bool:
    """Its first result by one reader, any other by none."""
    return graph.read[made.outs[0]] == 1 and not any(graph.read[out] for out in made.outs[1:])


def _stored_fill(graph: Graph, fill: Arg, clamps: Sequence[Instruction], out: QuantizedOutput) -> int:
    assert isinstance(fill, (bool, int, float))
    real = np.asarray(fill, np.float32)
    for low, high in (bounds for clamp in clamps if (bounds := graph.clamp(clamp)) is not None):
        real = np.clip(real, low, high)
    return int(quantise_array(real, out))


def _filled(args: tuple[Arg, ...], fill: int) -> tuple[Arg, ...]:
    return (*args[:PAD_FILL], fill, *args[PAD_FILL + 1 :])


def _takes(graph: Graph, instruction: Instruction, dtype: DType) -> bool:
    """Whether the operator has a kernel, or none to need, for elements of this type."""
    op = graph.op(instruction)
    if op is None:
        return False
    first = next((parameter.name for parameter in op.signature.parameters if parameter.kind.startswith("Tensor")), "")
    # the types are those of the first operand
    return dtype in op.dtypes or (bool(op.carries) and first not in op.carries)
