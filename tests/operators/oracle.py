"""Eager PyTorch: the overload behind an operator's schema, its results in float64, and how far a kernel's may lie from
them."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

from etexport.frontend.recurrent import operators
from etexport.kernel.node import Node
from etexport.kernel.op import Op
from etexport.kernel.schema import Schema, parse_schema
from etexport.program.model import COMPUTED, Array, DType

from .cases import Sample, Tensor

torch.set_num_threads(1)

TORCH_DTYPES = {dtype: getattr(torch, str(dtype.numpy)) for dtype in COMPUTED}
TOLERANCE = 2e-6
SMALLEST = float(np.finfo(np.float32).tiny)


@functools.cache
def functional(name: str) -> Any:
    """The functional overload with the same arguments as this out-variant: `aten::add.out` ->
    `torch.ops.aten.add.Tensor`."""
    namespace, _, rest = name.partition("::")
    if namespace == "dim_order_ops":
        return lambda self, non_blocking, dim_order: self.clone()
    packet_name, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), packet_name)
    if namespace == "etexport":
        return packet.default
    out_variant = getattr(packet, overload or "default")
    wanted = parse_schema(_text(out_variant))
    if not overload:
        return lambda destination, *rest: out_variant(destination.clone(), *rest)
    every = (getattr(packet, candidate) for candidate in packet.overloads())
    # TorchScript's lists and dictionaries have a copy, too
    candidates = [
        one
        for one in every
        if not any(word in _text(one) for word in ("Dict(", " t)", "t[](a)", "[](a) self) -> ", "[](a!) self"))
    ]
    # those with no further parameters first: max(self) is not the beginning of max(self, other)
    for found in sorted(candidates, key=lambda one: len(one._schema.arguments)):
        schema = parse_schema(_text(found))
        if not schema.outs and schema.parameters[: len(wanted.parameters)] == wanted.parameters:
            return functools.partial(_called, found, wanted)
    raise AssertionError(f"no functional overload for {name}")


def schema_of(name: str) -> str:
    """The schema of an `aten::` operator as this PyTorch prints it."""
    packet_name, _, overload = name.partition("::")[2].partition(".")
    return str(getattr(getattr(torch.ops.aten, packet_name), overload or "default")._schema)


def _text(overload: Any) -> str:
    return str(overload._schema)


def _called(overload: Any, wanted: Schema, *args: Any) -> Any:
    """Keyword-only arguments go by name."""
    keyword_only = {argument.name for argument in overload._schema.arguments if argument.kwarg_only}
    named = {parameter.name: arg for parameter, arg in zip(wanted.parameters, args, strict=True)}
    positional = [named.pop(parameter.name) for parameter in wanted.parameters if parameter.name not in keyword_only]
    return overload(*positional, **named)


def arguments(op: Op, args: tuple[Any, ...], *, wide: bool) -> list[Any]:
    """The arguments as PyTorch takes them; float32 becomes float64 where `wide`."""

    def converted(arg: Any, kind: str) -> Any:
        if isinstance(arg, Tensor):
            tensor = torch.from_numpy(arg.data.copy())
            return tensor.double() if wide and tensor.dtype is torch.float32 else tensor
        if isinstance(arg, tuple):
            return [converted(item, kind) for item in arg]
        if kind.rstrip("?") == "ScalarType" and arg is not None:
            dtype = TORCH_DTYPES[DType.of_code(arg)]
            return torch.float64 if wide and dtype is torch.float32 else dtype
        return arg

    return [converted(arg, parameter.kind) for arg, parameter in zip(args, op.signature.parameters, strict=True)]


def results(sample: Sample, *, wide: bool) -> tuple[Array, ...]:
    """What PyTorch computes, one array for each output that the schema names."""
    if not in_torch(sample.op.name):
        assert sample.op.reference is not None, f"{sample.op.name}: PyTorch has no such operator, and op.py no meaning"
        returned = sample.op.reference(*(_plain(arg, wide=wide) for arg in sample.args))
        return tuple(np.asarray(one) for one in (returned if isinstance(returned, tuple) else (returned,)))
    returned = called(sample, wide=wide)
    many = returned if isinstance(returned, (tuple, list)) else (returned,)
    return tuple(one.detach().contiguous().numpy() for one in many)


def called(sample: Sample, *, wide: bool) -> Any:
    """What PyTorch's operator returns. It resizes no int8, but what only carries elements carries their values in
    float32, too; indices that come with them are what they are."""
    function, args = functional(sample.op.name), arguments(sample.op, sample.args, wide=wide)
    try:
        return function(*args)
    except NotImplementedError:
        if not sample.op.carries or any(arg.dtype is not torch.int8 for arg in args if isinstance(arg, torch.Tensor)):
            raise
        found = function(*(arg.float() if isinstance(arg, torch.Tensor) else arg for arg in args))
        return (found[0].to(torch.int8), *found[1:]) if isinstance(found, tuple) else found.to(torch.int8)


def in_torch(name: str) -> bool:
    """Operators of ExecuTorch's that PyTorch lacks (`cortex_m::`) and our own are defined by the numpy meaning in
    `op.py`: integers bit for bit, floats in float64. The front end tells PyTorch of some of ours, which compute what
    PyTorch's whole layers do."""
    operators()
    return name.startswith(("aten::", "dim_order_ops::")) or hasattr(
        torch.ops.etexport, name.partition("::")[2].partition(".")[0]
    )


def _plain(arg: Any, *, wide: bool) -> Any:
    if isinstance(arg, tuple):
        return [_plain(item, wide=wide) for item in arg]
    if not isinstance(arg, Tensor):
        return arg
    return arg.data.astype(np.float64) if wide and arg.data.dtype == np.float32 else arg.data


def expected(sample: Sample) -> tuple[Array, ...]:
    """What the kernel is compared with: PyTorch's results in float32 where they must be equal, in float64 where they
    must be near."""
    first, *others = results(sample, wide=not sample.op.exact)
    if sample.residual is not None:
        first = first + sample.residual
    if sample.bounds is not None:
        first = torch.clamp(torch.from_numpy(first), *sample.bounds).numpy()
    return (first, *others)


def difference(sample: Sample, node: Node, index: int, got: Array, wanted: Array) -> str:
    """What is wrong with output `index`, "" where nothing is."""
    if got.shape != wanted.shape:
        return f"shape {got.shape} where {wanted.shape} belongs"
    if got.dtype.kind != "f":
        same = got == wanted
    elif sample.op.exact:
        same = (got.view(f"i{got.itemsize}") == wanted.astype(got.dtype).view(f"i{got.itemsize}")) | (
            np.isnan(got) & np.isnan(wanted)
        )
    else:
        allowed = tolerance(sample, node, wanted)
        with np.errstate(invalid="ignore"):
            near = np.abs(got - wanted) <= allowed
        with np.errstate(over="ignore"):
            rounded = wanted.astype(np.float32)
        same = np.where(np.isfinite(rounded), near, (got == rounded) | (np.isnan(got) & np.isnan(wanted)))
    if np.all(same):
        return ""
    at = tuple(int(axis[0]) for axis in np.nonzero(~np.atleast_1d(same)))
    got, wanted = np.atleast_1d(got), np.atleast_1d(wanted)
    return (
        f"output {index} has {np.sum(~same)} wrong elements of {got.size}, the first at {at}: {got[at]!r} where "
        f"{wanted[at]!r} belongs"
    )


def tolerance(sample: Sample, node: Node, wanted: Array) -> float:
    """2e-6 of the largest result, times the root of the number of terms of a sum: rounding errors of n additions add up
    like a walk.

    Where the terms cancel, the size of a result says nothing about them, so that their own size (the result for
    absolute operands) counts for as much as a sum of random signs would have. Below the smallest normal number float32
    may flush to 0.
    """
    finite = wanted[np.isfinite(wanted)]
    magnitude = float(np.max(np.abs(finite), initial=0.0))
    length = sample.op.sum_length(node) if sample.op.sum_length is not None else 1
    if length > 1:
        absolute = _absolute(sample)
        terms = max((float(np.max(np.abs(one[np.isfinite(one)]), initial=0.0)) for one in absolute), default=0.0)
        magnitude = max(magnitude, terms / math.sqrt(length))
    return max(TOLERANCE * magnitude * math.sqrt(max(length, 1)), SMALLEST)


def _absolute(sample: Sample) -> tuple[Array, ...]:
    def positive(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(positive(item) for item in arg)
        return (
            Tensor(arg.of, np.asarray(np.abs(arg.data)))
            if isinstance(arg, Tensor) and arg.data.dtype.kind == "f"
            else arg
        )

    return results(Sample(sample.op, sample.case, tuple(positive(arg) for arg in sample.args), ""), wide=True)
