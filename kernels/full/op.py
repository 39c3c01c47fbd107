"""A tensor full of one value. It is always folded to a constant, so it needs no code."""

from __future__ import annotations

import numpy as np

from etexport.kernel.cases import Case, Draw
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.program.model import COMPUTED


def _full(node: Node) -> tuple[InferredSpec, ...]:
    if any(extent < 0 for extent in node["size"]):
        raise node.error(f"size {list(node['size'])} is no shape")
    return ((node.out.spec.dtype, tuple(node["size"])),)


def _draw(draw: Draw) -> Case:
    return Case((tuple(draw.integer(1, 5) for _ in range(draw.integer(0, 4))), draw.number(-10.0, 10.0)))


OPS = [
    Op(
        "aten::full.out(SymInt[] size, Scalar fill_value, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_full,
        dtypes=COMPUTED,
        reference=lambda size, value: np.full(size, value),
        exact=True,
        cases=(Case(((2, 3), 0.5)), Case(((), float("-inf")), "a mask"), Case(((4,), 3), "an integer")),
        draw=_draw,
    ),
]
