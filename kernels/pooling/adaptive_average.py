"""Average pooling to a given output size."""

from __future__ import annotations

from etexport.kernel.call import Call, Target
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.integer_layer import activation
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.kernel.quantized import Fused, IntegerNode, Rule, multiplier_shift, real_scale
from etexport.program.model import Array, DType
from etexport_kernels.pooling.averages import Averaged, pooled_averages, reference, zero_points
from etexport_kernels.pooling.pools import INF, adaptive, adaptive_shape, average, clamp, pool_of, swept


def _infer(node: Node) -> tuple[InferredSpec, ...]:
    return ((node["self"].spec.dtype, adaptive_shape(node)),)


def _lower(node: Node, target: Target) -> Call:
    pool = pool_of(node, *adaptive(node["self"].spec.shape, node["output_size"]))
    return swept(node, pool, "avg_pool", "pooling/rows.h", {"divisor": 0, **clamp(node)})


def _reference(x: Array, output_size: tuple[int, ...]) -> Array:
    return average(x, *adaptive(x.shape, output_size))


def _sum_length(node: Node) -> int:
    shape, size = node["self"].spec.shape, node.out.spec.shape
    return int((shape[-2] // size[-2] + 2) * (shape[-1] // size[-1] + 2))


def _draw(draw: Draw) -> Case:
    image = (draw.integer(1, 9), draw.integer(1, 10), draw.integer(1, 10))
    size = (draw.integer(1, 7), draw.integer(1, 7))
    return Case((T(image if draw.integer(0, 3) == 0 else (draw.integer(1, 2), *image)), size))


# ---- int8 ------------------------------------------------------------------------------------------------------------

_INT8 = "etexport::quantized_adaptive_avg_pool2d.out"
_LARGEST_SHIFT = 8
_ZEROS = ("input_zero_point", "output_zero_point")


def _infer8(node: Node) -> tuple[InferredSpec, ...]:
    if not (0 < node["multiplier"] < 2**31 and -31 <= node["shift"] <= _LARGEST_SHIFT):
        raise node.error(f"the scale's multiplier is {node['multiplier']}, its shift {node['shift']}")
    if not -128 <= node["activation_min"] <= node["activation_max"] <= 127:
        raise node.error(f"an activation from {node['activation_min']} to {node['activation_max']}")
    zero_points(node, *_ZEROS)
    return _infer(node)


def _lower8(node: Node, target: Target) -> Call:
    zeros = zero_points(node, *_ZEROS)
    how = Averaged(
        *zeros, real_scale(node["multiplier"], node["shift"]), node["activation_min"], node["activation_max"]
    )
    return pooled_averages(node, target, pool_of(node, *adaptive(node["self"].spec.shape, node["output_size"])), how)


def _reference8(
    x: Array, size: tuple[int, ...], zero_in: int, zero_out: int, multiplier: int, shift: int, low: int, high: int
) -> Array:  # fmt: skip
    return reference(x, *adaptive(x.shape, size), Averaged(zero_in, zero_out, real_scale(multiplier, shift), low, high))


def _rule(node: IntegerNode) -> Fused | str:
    x = activation(node, "self")
    if isinstance(x, str):
        return x
    scale = multiplier_shift(x.scale / node.out.scale)
    if scale[1] > _LARGEST_SHIFT:
        return "its scale is too large beside the result's"
    size = tuple(node.node["output_size"])
    return Fused(_INT8, (x.ref, size, x.zero_point, node.out.zero_point, *scale, node.out.low, node.out.high))


def _case8(
    shape: tuple[int, ...],
    size: tuple[int, int],
    scale: float = 1.0,
    zeros: tuple[int, int] = (3, -5),
    low: int = -128,
    note: str = "",
) -> Case:
    return Case((T(shape, DType.INT8, -128, 128), size, *zeros, *multiplier_shift(scale), low, 127), note)


def _draw8(draw: Draw) -> Case:
    operand, size = _draw(draw).args
    zeros = draw.integer(-128, 127), draw.integer(-128, 127)
    return _case8(operand.shape, size, draw.choice((1.0, draw.number(0.05, 3.0))), zeros, draw.choice((-128, zeros[1])))


RULES = [Rule("aten::_adaptive_avg_pool2d.out", _rule)]

OPS = [
    Op(
        schema="aten::_adaptive_avg_pool2d.out(Tensor self, SymInt[2] output_size, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer,
        lower=_lower,
        reference=_reference,
        layout=Layout.CHANNELS_LAST,
        absorbs=frozenset({"clamp"}),
        sum_length=_sum_length,
        cases=(
            Case((T((1, 8, 6, 6)), (1, 1)), "global"),
            Case((T((2, 5, 5, 7)), (3, 4)), "overlapping windows"),
            Case((T((1, 4, 2, 3)), (5, 6)), "more results than elements"),
            Case((T((3, 4, 6)), (2, 5)), "one image without a batch"),
            Case((T((1, 4, 6, 6)), (2, 6)), "one side as it is"),
            Case((T((1, 1, 2, 2), values=(1.0, float("nan"), INF, -INF)), (2, 1)), "NaN and infinities"),
        ),
        draw=_draw,
    ),
    Op(
        f"{_INT8}(Tensor self, int[] output_size, int input_zero_point, int output_zero_point, int multiplier, int "
        "shift, "
        "int activation_min, int activation_max, *, Tensor(a!) out) -> Tensor(a!)",
        infer=_infer8,
        lower=_lower8,
        dtypes=(DType.INT8,),
        reference=_reference8,
        layout=Layout.CHANNELS_LAST,
        exact=True,
        cases=(
            _case8((1, 8, 6, 6), (2, 3), note="windows of one size"),
            _case8((2, 19, 7, 8), (3, 5), note="overlapping windows, the scale stays: ties go to even"),
            _case8((1, 16, 9, 9), (4, 2), 1.7, (-128, 127), note="another scale"),
            _case8((3, 4, 6), (2, 5), 0.4, note="one image without a batch"),
            _case8((1, 4, 2, 3), (5, 6), 2.0, (0, 0), 0, "more results than elements, a relu"),
        ),
        draw=_draw8,
    ),
]
