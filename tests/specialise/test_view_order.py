"""`view_order` against numpy: where it names an order, the bytes are those of the reshaped array; where numpy can view,
so can it."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etexport.program.model import DType, TensorSpec
from etexport.specialise.layout import view_order


@st.composite
def specs(draw: st.DrawFn) -> tuple[TensorSpec, tuple[int, ...]]:
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=5)))
    order = tuple(draw(st.permutations(range(len(shape)))))
    rest = math.prod(shape)
    new = []
    while rest > 1 and len(new) < 5:
        size = draw(st.sampled_from([size for size in (1, 2, 3, 4, 6, 8, 12) if rest % size == 0]))
        new.append(size)
        rest //= size
    new += [rest] * (rest > 1)
    return TensorSpec(DType.FLOAT32, shape, order), tuple(new)


def laid_out(array: np.ndarray, order: tuple[int, ...]) -> list[int]:
    return np.transpose(array, order).reshape(-1).tolist()


@settings(max_examples=3000, deadline=None, derandomize=True)
@given(specs())
def test_bytes_stay(case: tuple[TensorSpec, tuple[int, ...]]) -> None:
    spec, shape = case
    array = np.arange(spec.numel).reshape(spec.shape)
    order = view_order(spec, shape)
    possible = _numpy_views(array, spec, shape)
    assert (order is not None) == possible, (spec, shape, order)
    if order is not None:
        assert sorted(order) == list(range(len(shape)))
        assert laid_out(array.reshape(shape), order) == laid_out(array, spec.dim_order)


def _numpy_views(array: np.ndarray, spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    """Can numpy show the array, laid out as the spec says, under the new shape without a copy?"""
    physical = np.transpose(array, spec.dim_order).copy(order="C")
    logical = np.transpose(physical, [spec.dim_order.index(dim) for dim in range(len(spec.shape))])
    return np.shares_memory(logical.reshape(shape), physical)
