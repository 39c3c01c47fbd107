"""The numpy meanings, through which constants are folded, against eager PyTorch: same values, same type, same shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from etexport.kernel.library import load_ops
from etexport.kernel.node import Node

from .batch import batch
from .cases import Sample, Tensor, documented, random_samples
from .oracle import in_torch, results, tolerance

OPS = {name: op for name, op in load_ops().ops.items() if op.reference is not None and in_torch(name)}


def plain(arg: Any) -> Any:
    """Operands as constant folding passes them: arrays, lists, literals."""
    if isinstance(arg, tuple):
        return [plain(item) for item in arg]
    return arg.data if isinstance(arg, Tensor) else arg


@pytest.mark.parametrize("name", OPS)
def test_reference(name: str) -> None:
    op = OPS[name]
    for one in (*documented(op), *(random_samples(op, 60) if op.draw else ())):
        node = batch([one]).nodes[0]
        with np.errstate(all="ignore"):
            found = op.reference(*(plain(arg) for arg in one.args))  # type: ignore[misc]
        found = found if isinstance(found, tuple) else (found,)
        for got, wanted, out in zip(found, results(one, wide=not op.exact), node.outs, strict=False):
            got = np.asarray(got).astype(out.spec.dtype.numpy).reshape(out.spec.shape)  # as constant folding stores it
            compare(one, node, got, wanted.astype(out.spec.dtype.numpy))


def compare(one: Sample, node: Node, got: Any, wanted: Any) -> None:
    assert got.shape == wanted.shape, f"{one}: {got.shape} where {wanted.shape} belongs"
    if one.op.exact or got.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted, err_msg=str(one))
    else:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2 * tolerance(one, node, wanted), err_msg=str(one))
