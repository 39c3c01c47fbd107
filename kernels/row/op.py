"""A row of a tensor at a place that a loop counts: what each round of `map` and `scan` reads of its operands and writes
of its results.

ExecuTorch has select_copy and et_copy_index with an index that it counts. A row outside the tensor is neither read (the
result is zeros) nor written: the loops of a program never ask for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import COMPUTED, DType, Value

_ALL = COMPUTED


def _row(node: Node, table: Value) -> InferredSpec:
    """Element type and shape of a row, once the count is found to be one."""
    if not table.spec.shape:
        raise node.error("a tensor without dimensions has no rows")
    count = node["count"].spec
    if (count.dtype, count.shape) != (DType.INT32, ()):
        raise node.error(f"a count of {count} where one int32 belongs")
    return table.spec.dtype, table.spec.shape[1:]


def _infer_row(node: Node) -> tuple[InferredSpec, ...]:
    return (_row(node, node["self"]),)


def _infer_set_row(node: Node) -> tuple[InferredSpec, ...]:
    table, source = node["self"].spec, node["src"].spec
    if (source.dtype, source.shape) != _row(node, node["self"]):
        raise node.error(f"{source} is no row of {table}")
    return ((table.dtype, table.shape),)


def _lower_row(node: Node, target: Target) -> Call:
    geometry = {"rows": node["self"].spec.shape[0], "elements": node.out.spec.numel}
    return Call("row", "row/row.h", geometry, (Write(node.out.id), Read(node["self"].id), Read(node["count"].id)))


def _lower_set_row(node: Node, target: Target) -> Call:
    geometry = {"rows": node.out.spec.shape[0], "elements": node["src"].spec.numel}
    return Call("set_row", "row/row.h", geometry, (Write(node.out.id), Read(node["src"].id), Read(node["count"].id)))


def _np_row(x: Any, count: Any) -> Any:
    return x[int(count)] if 0 <= int(count) < len(x) else np.zeros(x.shape[1:], x.dtype)


def _np_set_row(x: Any, row: Any, count: Any) -> Any:
    x = x.copy()
    if 0 <= int(count) < len(x):
        x[int(count)] = row
    return x


def _count(rows: int) -> T:
    return T((), DType.INT32, low=-1, high=rows + 1)


def _draw_table(draw: Draw) -> T:
    return T(tuple(draw.integer(1, 4) for _ in range(draw.integer(1, 4))), draw.choice(_ALL), low=0.0, high=2.0)


def _draw_row(draw: Draw) -> Case:
    table = _draw_table(draw)
    return Case((table, _count(table.shape[0])))


def _draw_set_row(draw: Draw) -> Case:
    table = _draw_table(draw)
    return Case((table, T(table.shape[1:], table.dtype, low=0.0, high=2.0), _count(table.shape[0])))


OPS = [
    Op(
        "executorch::row(Tensor self, Tensor count, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer_row,
        lower=_lower_row,
        dtypes=_ALL,
        reference=_np_row,
        layout=Layout.CONTIGUOUS,
        carries=("self",),
        exact=True,
        cases=(Case((T((5, 2, 3)), T((), DType.INT32, values=(3,))), "in a loop of map or scan"),),
        draw=_draw_row,
    ),
    Op(
        "executorch::set_row(Tensor(a!) self, Tensor src, Tensor count) -> Tensor(a!)",
        infer=_infer_set_row,
        lower=_lower_set_row,
        dtypes=_ALL,
        reference=_np_set_row,
        layout=Layout.CONTIGUOUS,
        exact=True,
        cases=(Case((T((5, 2, 3)), T((2, 3)), T((), DType.INT32, values=(3,))), "in a loop of map or scan"),),
        draw=_draw_set_row,
    ),
]
