"""How weights in few bits are stored, and what the operators that read them have in common."""

from __future__ import annotations

from math import prod

import numpy as np

from etexport.kernel.call import Const
from etexport.kernel.cases import Draw, T
from etexport.kernel.node import Node
from etexport.program.model import HALVES, Array, DType, Value, widened

OF_WEIGHTS = "Tensor weight, Tensor? scales, Tensor? zero_points"
"""What schemas say. Scales are (rows, groups), a group so many elements of a row; zero points too."""

_STORED = {
    (DType.INT8, 4): "Nibbles",
    (DType.INT8, 8): "Bytes",
    (DType.FLOAT16, 16): "Float16",
    (DType.BFLOAT16, 16): "BFloat16",
}


def kind(node: Node) -> str:
    """What the kernels call it."""
    return _STORED[node["weight"].spec.dtype, node["bits"]]


def zero_of(node: Node) -> int:
    """What stands for 0 where no zero points are."""
    return 0 if node["bits"] == 16 else 1 << (node["bits"] - 1)


def groups_of(node: Node, rows: int) -> int:
    """Groups of a row, after checking weights and scales."""
    weight, scales, zeros, bits = node["weight"], node["scales"], node["zero_points"], node["bits"]
    if (weight.spec.dtype, bits) not in _STORED or (scales is None) != (bits == 16):
        raise node.error(f"weights {weight.spec} in {bits} bits")
    if any(one is not None and one.data is None for one in (weight, scales, zeros)):
        raise node.error("the weights are no constants")
    if scales is None:
        return 1
    elements, shape = prod(weight.spec.shape) // max(rows, 1), scales.spec.shape
    if scales.spec.dtype is not DType.FLOAT32 or len(shape) != 2 or shape[0] != rows or elements % max(shape[1], 1):
        raise node.error(f"scales {scales.spec} of weights {weight.spec}")
    if zeros is not None and (zeros.spec.dtype, zeros.spec.shape) != (DType.INT8, shape):
        raise node.error(f"zero points {zeros.spec} beside scales {scales.spec}")
    limit = 1 << (bits - 1)
    if weight.data.size and not -limit <= weight.data.min() <= weight.data.max() < limit:
        raise node.error(f"weights beyond {bits} bits")
    return int(shape[1])


def rows_of(node: Node) -> tuple[int, int, int]:
    """(rows, elements of a row, groups of a row), after checking weights and scales of two dimensions."""
    weight = node["weight"].spec
    if len(weight.shape) != 2:
        raise node.error(f"weights {weight}")
    return (*weight.shape, groups_of(node, weight.shape[0]))


def row_constants(node: Node) -> tuple[Const, Const, Const]:
    """Weights, in rows of whole eights, scales and zero points."""
    return in_rows(node["weight"].data, *(_data(node[name]) for name in ("scales", "zero_points")), node["bits"])


def in_rows(weight: Array, scales: Array | None, zero_points: Array | None, bits: int) -> tuple[Const, Const, Const]:
    """`row_constants` of these."""
    numbers = integers(weight, bits)
    filled = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % 8))).reshape(-1)
    factors = (None if one is None else one.reshape(-1) for one in (scales, zero_points))
    return constants(in_bytes(filled, bits), *factors)


def _data(operand: Value | None) -> Array | None:
    return None if operand is None else operand.data


def as_float16(weight: Array) -> tuple[Array, float] | None:
    """Weights in 16 bits as float16 and the power of two to multiply them by, the nearest to 1; None where bfloat16's
    reach further than float16 can."""
    if weight.dtype == DType.FLOAT16.numpy:
        return weight, 1.0
    real = widened(weight)
    largest = float(np.abs(real).max(initial=0.0))
    if not 2.0**-100 < largest < np.inf:
        return None
    for top in range(16):
        power = 2.0 ** (top - int(np.frexp(largest)[1]) + 1)
        halves = (real * np.float32(power)).astype(np.float16)
        if np.array_equal(halves.astype(np.float32), real * np.float32(power)):
            return halves, 1.0 / power
    return None


def integers(weight: Array, bits: int) -> Array:
    """What stands for each weight in flash, as unsigned numbers."""
    return weight.view(np.uint16) if bits == 16 else (weight.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)


def in_bytes(numbers: Array, bits: int) -> Array:
    """`integers` of one dimension, as many as fill bytes."""
    if bits == 16:
        return numbers.astype("<u2").view(np.uint8)
    return numbers if bits == 8 else numbers[::2] | numbers[1::2] << 4


def constants(weight: Array, scales: Array | None, zero_points: Array | None) -> tuple[Const, Const, Const]:
    return Const("weight", weight), Const("scales", scales), Const("zero_points", zero_points)


def real(weight: Array, scales: Array | None, zero_points: Array | None) -> Array:
    """Rows of weights (rows, elements), in the scales' type."""
    if scales is None:
        return widened(weight)
    grouped = weight.reshape(*scales.shape, -1).astype(scales.dtype)
    if zero_points is not None:
        grouped = grouped - zero_points[..., None]
    return np.asarray((grouped * scales[..., None]).reshape(weight.shape))


def of_case(
    shape: tuple[int, ...], rows: int, groups: int, bits: int, *, zeros: bool = False, half: DType = DType.BFLOAT16
) -> tuple[T, T | None, T | None]:
    """Weights, scales and zero points of a test case."""
    assert half in HALVES
    if bits == 16:
        return T(shape, half, constant=True), None, None
    limit = 1 << (bits - 1)
    return (
        T(shape, DType.INT8, -limit, limit, constant=True),
        T((rows, groups), low=0.01, high=0.1, constant=True),
        T((rows, groups), DType.INT8, -limit, limit, constant=True) if zeros else None,
    )


def draw_sizes(draw: Draw) -> tuple[int, int]:
    """Groups of a row, and elements of each."""
    return draw.choice((1, 1, 2, 3)), draw.choice((8, 32, draw.integer(1, 40)))
