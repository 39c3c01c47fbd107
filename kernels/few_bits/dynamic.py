"""Rows of activations rounded to int8 with scales of their own, and linear layers of such rows in integers (what is
called 8da4w where weights have 4 bits)."""

from __future__ import annotations

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, DType

LEAST_SCALE = np.float32(2.0**-23)
LONGEST = 2**15
"""Elements of a group, so that 32 bits hold the sum of products of 9 bits by 8."""


def infer_rows(node: Node) -> tuple[InferredSpec, ...]:
    spec = node["input"].spec
    if spec.dtype is not DType.FLOAT32 or not spec.shape or not spec.shape[-1]:
        raise node.error(f"rows of {spec}")
    return ((spec.dtype, spec.shape),)


def _lower_rows(node: Node, target: Target) -> Call:
    spec = node["input"].spec
    geometry = {"rows": spec.numel // spec.shape[-1], "elements": spec.shape[-1]}
    return Call("round_rows", "few_bits/dynamic.h", geometry, (Write(node.out.id), Read(node["input"].id)))


def rounded(x: Array) -> tuple[Array, Array]:
    """The integers of each row without their zero point, and its scale, as float32. The rule is torchao's asymmetric
    one."""
    x = x.astype(np.float32)
    low, high = (np.asarray(of(x, axis=-1, keepdims=True), np.float32) for of in (np.min, np.max))
    low, high = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
    scale = np.maximum((high - low) / np.float32(255), LEAST_SCALE)
    zero = np.clip(-128 - np.rint(low / scale), -128, 127)
    return np.clip(np.rint(x * (np.float32(1) / scale)) + zero, -128, 127) - zero, scale


def _reference_rows(x: Array) -> Array:
    integers, scale = rounded(x)
    return integers * scale


def _draw_rows(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 4) for _ in range(draw.integer(0, 2)))
    size = draw.choice((1e-6, 0.01, 1.0, 1000.0))
    return Case((T((*shape, draw.integer(1, 40)), low=draw.choice((-size, 0.0)), high=size),))


ROWS = Op(
    "etexport::round_rows.out(Tensor input, *, Tensor(a!) out) -> Tensor(a!)",
    infer=infer_rows,
    lower=_lower_rows,
    reference=_reference_rows,
    layout=Layout.CONTIGUOUS,
    exact=True,
    sum_length=lambda node: 1,  # a range of NaN is no range
    cases=(
        Case((T((3, 16)),), "a scale for each row"),
        Case((T((1, 4), values=(0.0, 0.0, 0.0, 0.0)),), "nothing"),
        Case((T((1, 5), values=(-51.0, -0.1, 0.1, 0.3, 204.0)),), "ties go to even"),
    ),
    draw=_draw_rows,
)
