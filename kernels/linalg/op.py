"""Small systems of linear equations, as filters solve them: inverse, solve, determinant, Cholesky's factor. Of
matrices, in batches.

A singular matrix gives infinities or NaN; PyTorch raises an error for it, which a kernel cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Scratch, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, DType, TensorSpec

_LIMIT = 2**31 - 1
_HEADER = "linalg/linalg.h"


def _matrices(node: Node, name: str) -> TensorSpec:
    """The spec of this operand, which is square matrices."""
    spec: TensorSpec = node[name].spec
    if len(spec.shape) < 2 or spec.shape[-1] != spec.shape[-2] or 0 in spec.shape:
        raise node.error(f"square matrices belong, not {list(spec.shape)}")
    if spec.dtype is not DType.FLOAT32:
        raise node.error(f"matrices of {spec.dtype.numpy}", hint="convert to float32 before")
    if spec.numel > _LIMIT:
        raise node.error(f"matrices {list(spec.shape)} are too large for 32-bit offsets")
    return spec


def _geometry(spec: TensorSpec) -> dict[str, GeometryField]:
    return {"batch": math.prod(spec.shape[:-2]), "n": spec.shape[-1]}


def _or_null(node: Node, at: int) -> Operand:
    return Const("info", None) if at in node.unused_outs else Write(node.outs[at].id)


def _room(node: Node, at: int, dtype: DType) -> Operand:
    """A result, or room for it where nobody reads it."""
    return Scratch(dtype, node.outs[at].spec.numel) if at in node.unused_outs else Write(node.outs[at].id)


def _infer_inverse(node: Node) -> tuple[InferredSpec, ...]:
    spec = _matrices(node, "A")
    return ((spec.dtype, spec.shape), (DType.INT32, spec.shape[:-2]))


def _lower_inverse(node: Node, target: Target) -> Call:
    spec = _matrices(node, "A")
    n = spec.shape[-1]
    room = (Scratch(DType.FLOAT32, n * n), Scratch(DType.INT32, n))
    operands = (Write(node.out.id), *room, _or_null(node, 1), Read(node["A"].id))
    return Call("inverse", _HEADER, _geometry(spec), operands, macs=spec.numel * n)


def _infer_solve(node: Node) -> tuple[InferredSpec, ...]:
    spec, sides = _matrices(node, "A"), node["B"].spec
    if not node["left"]:
        raise node.error("x A = b", hint="solve A^T x^T = b^T")
    if sides.dtype is not spec.dtype:
        raise node.error(f"{spec} with {sides}", hint="convert both to float32")
    if sides.shape[: len(spec.shape) - 1] != spec.shape[:-1] or len(sides.shape) > len(spec.shape) or 0 in sides.shape:
        raise node.error(f"right sides {list(sides.shape)} of matrices {list(spec.shape)}")
    return (
        (spec.dtype, sides.shape),
        (spec.dtype, spec.shape),
        (DType.INT32, spec.shape[:-1]),
        (DType.INT32, spec.shape[:-2]),
    )


def _lower_solve(node: Node, target: Target) -> Call:
    spec, sides = _matrices(node, "A"), node["B"].spec
    columns = sides.shape[-1] if len(sides.shape) == len(spec.shape) else 1
    room = (_room(node, 1, DType.FLOAT32), _room(node, 2, DType.INT32), _or_null(node, 3))
    operands = (Write(node.out.id), *room, Read(node["A"].id), Read(node["B"].id))
    macs = spec.numel * (spec.shape[-1] // 3 + columns)
    return Call("solve", _HEADER, {**_geometry(spec), "columns": columns}, operands, macs=macs)


def _infer_determinant(node: Node) -> tuple[InferredSpec, ...]:
    spec = _matrices(node, "A")
    return ((spec.dtype, spec.shape[:-2]), (spec.dtype, spec.shape), (DType.INT32, spec.shape[:-1]))


def _lower_determinant(node: Node, target: Target) -> Call:
    spec = _matrices(node, "A")
    operands = (Write(node.out.id), _room(node, 1, DType.FLOAT32), _room(node, 2, DType.INT32), Read(node["A"].id))
    return Call("determinant", _HEADER, _geometry(spec), operands, macs=spec.numel * spec.shape[-1] // 3)


def _infer_cholesky(node: Node) -> tuple[InferredSpec, ...]:
    spec = _matrices(node, "self")
    return ((spec.dtype, spec.shape), (DType.INT32, spec.shape[:-2]))


def _lower_cholesky(node: Node, target: Target) -> Call:
    spec = _matrices(node, "self")
    operands = (Write(node.out.id), _or_null(node, 1), Read(node["self"].id))
    geometry = {**_geometry(spec), "upper": bool(node["upper"])}
    return Call("cholesky", _HEADER, geometry, operands, macs=spec.numel * spec.shape[-1] // 6)


# ---- numpy meanings --------------------------------------------------------------------------------------------------


def _factors(a: Array) -> tuple[Array, Array]:
    """L and U in one matrix each, and the rows that were exchanged, counted from 1."""
    lu = a.astype(np.float64)
    n = a.shape[-1]
    pivots = np.empty(a.shape[:-1], np.int32)
    for one in np.ndindex(a.shape[:-2]):
        matrix = lu[one]
        for k in range(n):
            best = k + int(np.argmax(np.abs(matrix[k:, k])))
            pivots[(*one, k)] = best + 1
            matrix[[k, best]] = matrix[[best, k]]
            if matrix[k, k] != 0:
                matrix[k + 1 :, k] /= matrix[k, k]
                matrix[k + 1 :, k + 1 :] -= np.outer(matrix[k + 1 :, k], matrix[k, k + 1 :])
    return lu.astype(a.dtype), pivots


def _info(lu: Array) -> Array:
    zero = np.diagonal(lu, axis1=-2, axis2=-1) == 0
    return np.where(zero.any(-1), np.argmax(zero, -1) + 1, 0).astype(np.int32)


def _solved(a: Array, b: Array) -> Array:
    if _info(_factors(a)[0]).any():
        return np.full(b.shape, np.nan, b.dtype)
    return np.linalg.solve(a.astype(np.float64), b).astype(b.dtype)


def _np_inverse(a: Array, check_errors: bool) -> tuple[Array, Array]:
    return _solved(a, np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)), _info(_factors(a)[0])


def _np_solve(a: Array, b: Array, left: bool, check_errors: bool) -> tuple[Array, ...]:
    lu, pivots = _factors(a)
    vectors = b.ndim < a.ndim
    result = _solved(a, b[..., None] if vectors else b)
    return result[..., 0] if vectors else result, lu, pivots, _info(lu)


def _np_determinant(a: Array) -> tuple[Array, ...]:
    """PyTorch factorises the transposed matrix here."""
    return np.asarray(np.linalg.det(a.astype(np.float64))).astype(a.dtype), *_factors(np.swapaxes(a, -1, -2))


def _np_cholesky(a: Array, upper: bool, check_errors: bool) -> tuple[Array, Array]:
    half = np.swapaxes(np.triu(a), -1, -2) if upper else np.tril(a)
    whole = (half + np.swapaxes(np.tril(half, -1), -1, -2)).astype(np.float64)
    if (np.linalg.eigvalsh(whole) <= 0).any():
        return np.full(a.shape, np.nan, a.dtype), np.ones(a.shape[:-2], np.int32)
    factor = np.linalg.cholesky(whole).astype(a.dtype)
    return np.swapaxes(factor, -1, -2) if upper else factor, np.zeros(a.shape[:-2], np.int32)


def _size(name: str) -> Callable[[Node], int]:
    return lambda node: int(node[name].spec.shape[-1])


# ---- cases -----------------------------------------------------------------------------------------------------------


def _matrix(seed: int, *shape: int, symmetric: bool = False) -> T:
    """Far from singular, with its large elements in any row; or symmetric and positive."""
    random = np.random.default_rng(seed)
    n = shape[-1]
    values, large = random.uniform(-1, 1, shape), n * np.eye(n)
    matrix = (
        values @ np.swapaxes(values, -1, -2) + large if symmetric else (values + large)[..., random.permutation(n), :]
    )
    return T(shape, values=tuple(matrix.astype(np.float32).reshape(-1).tolist()))


def _shape(draw: Draw) -> tuple[int, ...]:
    n = draw.integer(1, 6)
    return (*(draw.integer(1, 3) for _ in range(draw.integer(0, 2))), n, n)


def _drawn(*rest: Any) -> Callable[[Draw], Case]:
    return lambda draw: Case((_matrix(draw.integer(0, 2**31 - 1), *_shape(draw)), *rest))


def _draw_solve(draw: Draw) -> Case:
    shape = _shape(draw)
    columns = (draw.integer(1, 4),) if draw.flag() else ()
    return Case((_matrix(draw.integer(0, 2**31 - 1), *shape), T((*shape[:-1], *columns)), True, False))


def _draw_cholesky(draw: Draw) -> Case:
    return Case((_matrix(draw.integer(0, 2**31 - 1), *_shape(draw), symmetric=True), draw.flag(), False))


OPS = [
    Op(
        "aten::linalg_inv_ex.inverse(Tensor A, *, bool check_errors=False, Tensor(a!) inverse, Tensor(b!) info) -> "
        "(Tensor(a!) inverse, Tensor(b!) info)",
        infer=_infer_inverse,
        lower=_lower_inverse,
        reference=_np_inverse,
        layout=Layout.CONTIGUOUS,
        sum_length=_size("A"),
        cases=(Case((_matrix(1, 3, 3), False)), Case((_matrix(2, 2, 4, 4), False), "several")),
        draw=_drawn(False),
    ),
    Op(
        "aten::_linalg_solve_ex.result(Tensor A, Tensor B, *, bool left=True, bool check_errors=False, Tensor(a!) "
        "result, Tensor(b!) LU, "
        "Tensor(c!) pivots, Tensor(d!) info) -> (Tensor(a!) result, Tensor(b!) LU, Tensor(c!) pivots, Tensor(d!) info)",
        infer=_infer_solve,
        lower=_lower_solve,
        reference=_np_solve,
        layout=Layout.CONTIGUOUS,
        sum_length=_size("A"),
        cases=(
            Case((_matrix(3, 4, 4), T((4, 2)), True, False)),
            Case((_matrix(4, 5, 5), T((5,)), True, False), "one right side"),
            Case((_matrix(5, 2, 3, 3), T((2, 3, 1)), True, False), "several"),
        ),
        draw=_draw_solve,
    ),
    Op(
        "aten::_linalg_det.result(Tensor A, *, Tensor(a!) result, Tensor(b!) LU, Tensor(c!) pivots) -> "
        "(Tensor(a!) result, Tensor(b!) LU, Tensor(c!) pivots)",
        infer=_infer_determinant,
        lower=_lower_determinant,
        reference=_np_determinant,
        layout=Layout.CONTIGUOUS,
        sum_length=_size("A"),
        cases=(Case((_matrix(6, 3, 3),)), Case((_matrix(7, 2, 4, 4),), "several")),
        draw=_drawn(),
    ),
    Op(
        "aten::linalg_cholesky_ex.L(Tensor self, *, bool upper=False, bool check_errors=False, Tensor(a!) L, "
        "Tensor(b!) info) -> "
        "(Tensor(a!) L, Tensor(b!) info)",
        infer=_infer_cholesky,
        lower=_lower_cholesky,
        reference=_np_cholesky,
        layout=Layout.CONTIGUOUS,
        sum_length=_size("self"),
        cases=(
            Case((_matrix(8, 4, 4, symmetric=True), False, False)),
            Case((_matrix(9, 2, 3, 3, symmetric=True), True, False), "upper factors"),
        ),
        draw=_draw_cholesky,
    ),
]
