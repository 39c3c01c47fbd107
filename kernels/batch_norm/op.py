"""Batch normalisation at inference, for those that no pass could fold into the layer before."""

from __future__ import annotations

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Read, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.int8 import Int8, Scales
from etexport.kernel.integer_layer import activation, fixed, layer_of, problem
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.quantized import Fused, IntegerNode, Quantized, Rule
from etexport.kernel.strided import nest
from etexport.program.model import Array, DType, Role, TensorSpec, Value

_INF = float("inf")


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    x = node["input"].spec
    if len(x.shape) < 2:
        raise node.error(f"batch norm of {list(x.shape)}: no dimension of channels")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if node[name] is not None and node[name].spec.shape != x.shape[1:2]:
            raise node.error(f"{name} is {list(node[name].spec.shape)} for {x.shape[1]} channels")
    return ((x.dtype, x.shape), (x.dtype, (0,)), (x.dtype, (0,)))


def _lower(node: Node, target: Target) -> Call:
    x, out = node["input"], node.out
    for name in ("weight", "bias", "running_mean", "running_var"):
        if node[name] is not None and node[name].data is None:
            raise node.error(f"{name} is not a constant of the model", "call eval() on the model before it is exported")
    mean, variance = node["running_mean"].data, node["running_var"].data
    loops = nest(
        out.spec.shape, out.spec.strides, x.spec.strides, tuple(int(dim == 1) for dim in range(len(x.spec.shape)))
    )
    epilogue = node.instruction.epilogue
    geometry: dict[str, GeometryField] = {
        "sizes": loops.sizes,
        "out_strides": loops.strides[0],
        "self_strides": loops.strides[1],
        "channel_strides": loops.strides[2],
        "low": -_INF if epilogue is None else epilogue.low,
        "high": _INF if epilogue is None else epilogue.high,
    }
    bias = np.zeros_like(mean) if node["bias"] is None else node["bias"].data
    scale = _scale(None if node["weight"] is None else node["weight"].data, variance, node["eps"])
    constants = (Const("mean", mean), Const("scale", scale), Const("bias", bias))
    return Call("batch_norm", "batch_norm/batch_norm.h", geometry, (Write(out.id), Read(x.id), *constants))


def _scale(weight: Array | None, variance: Array, eps: float) -> Array:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scale = 1.0 / np.sqrt(variance.astype(np.float64) + eps)
        return (scale if weight is None else scale * weight).astype(variance.dtype)


def _reference(
    x: Array, weight: Array | None, bias: Array | None, mean: Array, variance: Array, momentum: float, eps: float
) -> tuple[Array, Array, Array]:
    by_channel = (1, -1) + (1,) * (x.ndim - 2)
    scale = _scale(weight, variance, eps).astype(np.float64)
    out = (x.astype(np.float64) - mean.reshape(by_channel)) * scale.reshape(by_channel)
    if bias is not None:
        out += bias.reshape(by_channel)
    empty = np.zeros(0, x.dtype)
    return out.astype(x.dtype), empty, empty


# ---- int8 ------------------------------------------------------------------------------------------------------------

_DEPTHWISE = "cortex_m::quantized_depthwise_conv2d.out"


def _rule(node: IntegerNode) -> Fused | str:
    """A factor and a shift for each channel are a depthwise convolution with windows of one element."""
    plain = node.node
    x = activation(node, "input")
    if isinstance(x, str):
        return x
    rank = len(x.value.spec.shape) - 2
    if rank not in (1, 2):
        return f"it normalises {rank} spatial dimensions; images and sequences have a kernel"
    contents = [
        None if plain[name] is None else plain[name].data for name in ("weight", "bias", "running_mean", "running_var")
    ]
    if any(
        plain[name] is not None and found is None for name, found in zip(("weight", "bias"), contents, strict=False)
    ):
        return "its weight or its bias is not a constant"
    weight, bias, mean, variance = contents
    if mean is None or variance is None:
        return "its statistics are not constants"
    factor = _scale(weight, variance, plain["eps"]).astype(np.float64)
    shift = (0.0 if bias is None else bias.astype(np.float64)) - mean * factor
    if not (np.all(np.isfinite(factor)) and np.all(np.isfinite(shift))):
        return "its statistics are not finite"
    # of a factor next to nothing fewer bits count, and the shift must fit beside it
    steps = np.maximum(np.abs(factor) / _taps(factor, shift / x.scale), node.out.scale / x.scale * 2.0**-16)
    taps = np.rint(factor / steps).astype(np.int8)
    channels = len(factor)
    added = Value(-1, "bias", TensorSpec(DType.FLOAT32, (channels,)), Role.CONSTANT, shift.astype(np.float32))
    constants = fixed(node, x, Quantized(added, steps, np.zeros(channels, np.int64), 0), added, None, taps)
    if isinstance(constants, str):
        return constants
    taps = constants.weights
    reason = problem(layer_of(taps[:, None], constants.bias, x.zero_point, constants.multipliers, constants.shifts))
    one = (1,) * rank
    window = (one, (0,) * rank, one)  # stride, padding, dilation
    last = (constants.multipliers, constants.shifts, node.out.low, node.out.high, None)
    args = (
        x.ref,
        taps.reshape(1, *one, channels),
        constants.bias,
        *window,
        1,
        -x.zero_point,
        node.out.zero_point,
        *last,
    )
    return reason or Fused(_DEPTHWISE, args)


def _taps(factor: Array, shift: Array) -> Array:
    """The stored factor of each channel, 64 to 127. The shift, in steps of the input, is rounded to a multiple of
    factor / tap, beside a large factor a good part of a step of the result: the tap whose multiple comes nearest."""
    taps = np.arange(64, 128, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.abs(factor)[:, None] / taps
        words = shift[:, None] / units
        error = np.abs(words - np.rint(words)) * units
    return taps[np.argmin(np.nan_to_num(error), axis=1)]


RULES = [Rule("aten::_native_batch_norm_legit_no_training.out", _rule)]


# ---- cases -----------------------------------------------------------------------------------------------------------


def _case(shape: tuple[int, ...], note: str, *, affine: bool = True, eps: float = 1e-5, low: float = 0.1) -> Case:
    channel = shape[1:2]
    weight = T(channel, constant=True) if affine else None
    return Case(
        (T(shape), weight, weight, T(channel, constant=True), T(channel, low=low, high=3.0, constant=True), 0.1, eps),
        note,
    )


def _draw(draw: Draw) -> Case:
    shape = (draw.integer(1, 3), draw.integer(1, 9), *(draw.integer(1, 6) for _ in range(draw.integer(0, 3))))
    return _case(shape, "", affine=draw.flag(), eps=draw.choice((1e-5, 1e-3, 0.5)))


OPS = [
    Op(
        schema="aten::_native_batch_norm_legit_no_training.out(Tensor input, Tensor? weight, Tensor? bias, Tensor "
        "running_mean,"
        " Tensor running_var, float momentum, float eps, *, Tensor(a!) out0, Tensor(b!) out1, Tensor(c!) out2)"
        " -> (Tensor(a!), Tensor(b!), Tensor(c!))",
        infer=_infer,
        lower=_lower,
        reference=_reference,
        layout=Layout.FOLLOW,
        absorbs=frozenset({"clamp"}),
        inplace=("input",),
        sum_length=lambda node: 3,
        cases=(
            _case((2, 5, 4, 3), "images"),
            _case((3, 8), "features"),
            _case((1, 4, 9), "sequences, neither weight nor bias", affine=False),
            _case((1, 3, 2, 3, 2), "volumes", eps=1e-3),
            _case((1, 2, 2, 2), "a variance of next to nothing", low=0.0),
        ),
        draw=_draw,
    )
]

INT8 = [Int8(("aten::batch_norm",), Scales.NORM, saturates=True)]
