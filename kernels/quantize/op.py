"""Quantise and dequantise: where float data enters and leaves the integer part of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etexport.kernel.call import Call, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Op
from etexport.kernel.strided import nest
from etexport.program.model import COMPUTED, DType

_STORED = {dtype.code: dtype for dtype in (DType.INT8, DType.UINT8, DType.INT16, DType.INT32)}
_ZERO_POINTS = (DType.INT64, DType.INT32)
_ARGUMENTS = (
    "Tensor input, float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype, *, Tensor(a!) out"
)


def _stored(node: Node) -> DType:
    """The integer type, after checking that bounds and zero point lie in it."""
    dtype = _STORED.get(node["dtype"])
    if dtype is None:
        raise node.error(f"ScalarType {node['dtype']} has no quantisation kernel", "int8, uint8, int16 and int32 have")
    limits = np.iinfo(dtype.numpy)
    low, high, zero = node["quant_min"], node["quant_max"], node["zero_point"]
    if not limits.min <= low <= high <= limits.max:
        raise node.error(f"bounds {low} to {high} do not fit {dtype.numpy}")
    if not low <= zero <= high:
        raise node.error(f"zero point {zero} outside {low} to {high}")
    if not _is_scale(np.array(node["scale"], np.float64)):
        raise node.error(f"scale is {node['scale']}")
    return dtype


def _is_scale(scales: Any) -> bool:
    """Whether each is a positive float32, and so is its reciprocal."""
    with np.errstate(all="ignore"):
        single = scales.astype(np.float32)
        return bool((np.isfinite(single) & (single > 0) & np.isfinite(np.float32(1.0) / single)).all())


def _quantize(node: Node) -> tuple[InferredSpec, ...]:
    if node["input"].spec.dtype is not DType.FLOAT32:
        raise node.error(f"quantise of {node['input'].spec.dtype.numpy}")
    return ((_stored(node), node["input"].spec.shape),)


def _dequantize(node: Node) -> tuple[InferredSpec, ...]:
    if node["input"].spec.dtype is not _stored(node):
        raise node.error(f"dequantise of {node['input'].spec.dtype.numpy} where {_stored(node).numpy} is stated")
    return ((DType.FLOAT32, node["input"].spec.shape),)


def _lower_quantize(node: Node, target: Target) -> Call:
    zero, stored = node["zero_point"], node.out.spec.dtype
    geometry = {"zero_point": zero, "low": node["quant_min"] - zero, "high": node["quant_max"] - zero}
    inverse = np.float32(1.0) / np.float32(node["scale"])
    if stored is not DType.INT32 and _without_fpu(target) and _in_reach(inverse):
        return _call("quantize", node, {**_parts(inverse), **geometry}, "soft")
    whole = stored is DType.INT8 and (node["quant_min"], node["quant_max"]) == (-128, 127)
    return _call(
        "quantize",
        node,
        {"inverse": float(inverse), **geometry},
        "m4f" if whole and target.features >= _M4F else "portable",
    )


def _lower_dequantize(node: Node, target: Target) -> Call:
    scale = np.float32(node["scale"])
    geometry = {"zero_point": node["zero_point"]}
    bytes_in = node["input"].spec.dtype in (DType.INT8, DType.UINT8)
    if bytes_in and _without_fpu(target) and _in_reach(scale):
        return _call("dequantize", node, {**_parts(scale), **geometry}, "soft")
    m4f = node["input"].spec.dtype is DType.INT8 and target.features >= _M4F
    return _call("dequantize", node, {"scale": float(scale), **geometry}, "m4f" if m4f else "portable")


def _without_fpu(target: Target) -> bool:
    return not target.features & {"fpu", "host"}


def _in_reach(factor: np.float32) -> bool:
    """Infinity times it is out of an integer's bounds still, a subnormal float times it 0, and a byte times it a normal
    float."""
    return bool(2.0**-90 < factor < 2.0**90)


def _parts(factor: np.float32) -> dict[str, int]:
    """A normal float as a mantissa of 24 bits times a power of two."""
    fraction, exponent = np.frexp(factor)
    return {"mantissa": int(np.ldexp(fraction, 24)), "exponent": int(exponent) - 24}


_M4F = {"dsp", "fpu"}


def _call(function: str, node: Node, geometry: dict[str, Any], variant: str) -> Call:
    loops = nest(node.out.spec.shape, node.out.spec.strides, node["input"].spec.strides)
    strides = {"sizes": loops.sizes, "out_strides": loops.strides[0], "self_strides": loops.strides[1]}
    ending = "" if variant == "portable" else f"_{variant}"
    operands = (Write(node.out.id), Read(node["input"].id))
    return Call(
        f"{function}{ending}", f"quantize/quantize{ending}.h", {**strides, **geometry}, operands, variant=variant
    )


def _np_quantize(x: Any, scale: float, zero_point: int, low: int, high: int, dtype: int) -> Any:
    with np.errstate(all="ignore"):
        scaled = np.rint(x * (np.float32(1.0) / np.float32(scale)))
    stored = np.clip(np.nan_to_num(scaled.astype(np.float64)) + zero_point, low, high)
    return np.where(np.isnan(scaled), 0, stored).astype(_STORED[dtype].numpy)


def _np_dequantize(x: Any, scale: float, zero_point: int, low: int, high: int, dtype: int) -> Any:
    return ((x.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)).astype(np.float32)


def _draw_quantize(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
    return Case((T(shape), draw.number(0.005, 0.1), draw.integer(-128, 127), -128, 127, DType.INT8.code))


def _draw_dequantize(draw: Draw) -> Case:
    shape = tuple(draw.integer(1, 7) for _ in range(draw.integer(0, 4)))
    return Case(
        (T(shape, DType.INT8, -128, 128), draw.number(0.005, 0.1), draw.integer(-128, 127), -128, 127, DType.INT8.code)
    )


def _dequantize_channels(node: Node) -> tuple[InferredSpec, ...]:
    spec, scales, zeros = node["input"].spec, node["scales"].spec, node["zero_points"]
    stored = _STORED.get(node["dtype"])
    if spec.dtype is not stored:
        raise node.error(f"dequantise of {spec.dtype.numpy} where ScalarType {node['dtype']} is stated")
    if scales.dtype is not DType.FLOAT32 or (zeros is not None and zeros.spec.dtype not in _ZERO_POINTS):
        raise node.error("scales are float32, zero points int64 or int32")
    if zeros is not None and zeros.spec.shape != scales.shape:
        raise node.error(f"{list(zeros.spec.shape)} zero points for {list(scales.shape)} scales")
    limits = np.iinfo(stored.numpy)
    if not limits.min <= node["quant_min"] <= node["quant_max"] <= limits.max:
        raise node.error(f"bounds {node['quant_min']} to {node['quant_max']} do not fit {stored.numpy}")
    found = node["scales"].data
    if found is not None and not (np.isfinite(found) & (found > 0)).all():
        raise node.error("a scale is no positive number")
    if (
        zeros is not None
        and zeros.data is not None
        and not ((zeros.data >= limits.min) & (zeros.data <= limits.max)).all()
    ):
        raise node.error(f"a zero point is none of {stored.numpy}")
    if not (spec.shape and -len(spec.shape) <= node["axis"] < len(spec.shape)):
        raise node.error(f"axis {node['axis']} of {spec}")
    if scales.shape != (spec.shape[node["axis"]],):
        raise node.error(f"{list(scales.shape)} scales for {spec.shape[node['axis']]} channels")
    return ((DType.FLOAT32, spec.shape),)


def _waist(name: str, arguments: str, infer: Callable[[Node], tuple[InferredSpec, ...]]) -> Op:
    """An operator of the board-neutral form. It has no numpy meaning, so that no weight is ever turned back into floats
    by constant folding, and no kernel: the target side takes it apart."""
    return Op(
        f"quantized_decomposed::{name}.out({arguments}, *, Tensor(a!) out) -> Tensor(a!)",
        infer=infer,
        dtypes=COMPUTED,
    )


_PER_TENSOR = "Tensor input, float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype"
_PER_CHANNEL = (
    "Tensor input, Tensor scales, Tensor? zero_points, int axis, int quant_min, int quant_max, ScalarType dtype"
)

_ENDS = (0.5, 3.0e38, -3.0e38, 2.0**31, -(2.0**31), float("nan"), float("inf"), -float("inf"), -2.5)

OPS = [
    _waist("quantize_per_tensor", _PER_TENSOR, _quantize),
    _waist("dequantize_per_tensor", f"{_PER_TENSOR}, ScalarType? out_dtype=None", _dequantize),
    _waist("dequantize_per_channel", f"{_PER_CHANNEL}, ScalarType? out_dtype=None", _dequantize_channels),
    Op(
        f"cortex_m::quantize_per_tensor.out({_ARGUMENTS}) -> Tensor(a!)",
        infer=_quantize,
        lower=_lower_quantize,
        reference=_np_quantize,
        exact=True,
        cases=(
            Case((T((2, 3, 4)), 0.02, 3, -128, 127, 1), "int8"),
            Case((T((2, 3, 4)), 0.02, -300, -32768, 32767, 2), "int16"),
            Case((T((1, 2, 4, 4), dim_order=(0, 2, 3, 1)), 0.01, -128, -128, 127, 1), "channels last, saturating"),
            Case((T((6,), values=(0.5, 1.5, 2.5, -0.5, -1.5, 1e9)), 1.0, 0, -128, 127, 1), "ties go to even"),
            Case((T((9,), values=_ENDS), 1.0, -128, -128, 127, 1), "NaN is 0; what 32 bits cannot hold"),
            Case((T((9,), values=_ENDS), 1.0, 127, -128, 127, 1), "the same at the other end"),
            Case(
                (T((3,), values=(-(2.0**31), 2.0**31 - 128, 0.5)), 1.0, -100, -128, 127, 1),
                "what 32 bits can just hold",
            ),
            Case(
                (T((4,), values=(-17.25, -16.95, -14.25, -13.05)), 0.3, 0, -128, 127, 1),
                "ties once the product is rounded to a float",
            ),
            Case((T((9,), values=_ENDS), 1e-30, 0, 0, 255, 0), "uint8, a small scale"),
            Case((T((9,), values=_ENDS), 1e30, 0, -128, 127, 1), "a large scale"),
        ),
        draw=_draw_quantize,
    ),
    Op(
        f"cortex_m::dequantize_per_tensor.out({_ARGUMENTS}) -> Tensor(a!)",
        infer=_dequantize,
        lower=_lower_dequantize,
        dtypes=(DType.INT8, DType.UINT8, DType.INT16),
        reference=_np_dequantize,
        exact=True,
        cases=(
            Case((T((2, 3, 4), DType.INT8, -128, 128), 0.02, 3, -128, 127, 1), "int8"),
            Case((T((2, 3, 4), DType.INT16, -3000, 3000), 0.02, 3, -32768, 32767, 2), "int16"),
        ),
        draw=_draw_dequantize,
    ),
]
