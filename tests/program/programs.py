"""Programs made by hand: between them every kind of value, argument and instruction that the format has and we
support."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from etexport.program.model import (
    JUMP_FALSE,
    MOVE,
    Arg,
    DType,
    Instruction,
    Method,
    Program,
    Ref,
    Role,
    Source,
    TensorSpec,
    Value,
    substitute,
)


def spec(*shape: int, dtype: DType = DType.FLOAT32, order: tuple[int, ...] = ()) -> TensorSpec:
    return TensorSpec(dtype, shape, order)


def value(
    id_: int, name: str, role: Role, *shape: int, dtype: DType = DType.FLOAT32, order: tuple[int, ...] = ()
) -> Value:
    return Value(id_, name, spec(*shape, dtype=dtype, order=order), role)


def holding(id_: int, name: str, data: np.ndarray, role: Role = Role.CONSTANT, order: tuple[int, ...] = ()) -> Value:
    return Value(id_, name, TensorSpec(DType.of_numpy(data.dtype), data.shape, order), role, data)


def call(
    handle: int, op: str, args: tuple[Arg, ...], *outs: int, name: str = "", source: Source | None = None
) -> Instruction:
    return Instruction(op, args, outs, handle, name, source)


def method(
    values: list[Value], instructions: list[Instruction], inputs: tuple[int, ...], outputs: tuple[int, ...], name: str
) -> Method:
    return Method(name, {one.id: one for one in values}, tuple(instructions), inputs, outputs)


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolution() -> Method:
    """Convolution with channels-last weights, ReLU, max pooling with two results, a view, a linear layer, softmax."""
    values = [
        value(0, "image", Role.INPUT, 1, 1, 8, 8),
        holding(1, "conv_weight", random(1, 4, 1, 3, 3), order=(0, 2, 3, 1)),
        holding(2, "conv_bias", random(2, 4)),
        value(3, "conv", Role.ACTIVATION, 1, 4, 8, 8),
        value(4, "relu", Role.ACTIVATION, 1, 4, 8, 8),
        value(5, "pool", Role.ACTIVATION, 1, 4, 4, 4),
        value(6, "pool_places", Role.ACTIVATION, 1, 4, 4, 4, dtype=DType.INT64),
        value(7, "flat", Role.ACTIVATION, 1, 64),
        holding(8, "fc_weight", random(3, 64, 10)),
        holding(9, "fc_bias", random(4, 10)),
        value(10, "fc", Role.ACTIVATION, 1, 10),
        value(11, "probabilities", Role.OUTPUT, 1, 10),
    ]
    # the convolution's weights in the format's default layout, since the stock kernels want one layout throughout
    values[1] = holding(1, "conv_weight", random(1, 4, 1, 3, 3))
    line = Source("model.py", 12, "x = self.conv(x)")
    conv: tuple[Arg, ...] = (Ref(0), Ref(1), Ref(2), (1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    instructions = [
        call(0, "aten::convolution.out", conv, 3, name="features.conv", source=line),
        call(
            1,
            "aten::relu.out",
            (Ref(3),),
            4,
            name="relu",
            source=Source("layers/act.py", 3, "return relu(x)  # größer"),
        ),
        call(2, "aten::max_pool2d_with_indices.out", (Ref(4), (2, 2), (), (0, 0), (1, 1), False), 5, 6, name="pool"),
        call(3, "aten::view_copy.out", (Ref(5), (1, 64)), 7, name="flat"),
        call(4, "aten::addmm.out", (Ref(9), Ref(7), Ref(8), 1, 1), 10, name="fc"),
        call(5, "aten::_softmax.out", (Ref(10), 1, False), 11),
    ]
    return method(values, instructions, (0,), (11,), "forward")


def arguments() -> Method:
    """Every kind of argument: texts, infinities, -0.0, lists of each kind, lists of tensors with and without holes,
    list outs."""
    values = [
        value(0, "x", Role.INPUT, 2, 6),
        value(1, "first", Role.ACTIVATION, 2, 2),
        value(2, "second", Role.ACTIVATION, 2, 4),
        value(3, "joined", Role.OUTPUT, 2, 10),
        value(4, "gelu", Role.ACTIVATION, 2, 2),
        value(5, "clamped", Role.ACTIVATION, 2, 2),
        holding(6, "rows", np.array([1, 0], np.int64)),
        value(7, "picked", Role.OUTPUT, 2, 2),
        value(8, "best", Role.OUTPUT, 2, 1),
        value(9, "best_at", Role.OUTPUT, 2, 1, dtype=DType.INT64),
        value(10, "padded", Role.OUTPUT, 4, 2),
        holding(11, "nothing", np.zeros((0,), np.uint8)),
        value(12, "upsampled", Role.ACTIVATION, 2, 2),
    ]
    instructions = [
        call(0, "aten::split_with_sizes_copy.out", (Ref(0), (2, 4), 1), 1, 2, name="split"),
        call(1, "aten::gelu.out", (Ref(1), "tanh"), 4, name="gelu"),
        call(2, "aten::clamp.out", (Ref(4), -0.0, math.inf), 5, name="clamp"),
        call(3, "aten::cat.out", ((Ref(5), Ref(2), Ref(2)), 1), 3, name="cat"),
        call(4, "aten::index.Tensor_out", (Ref(5), (None, Ref(6))), 7, name="index"),
        call(5, "aten::topk.values", (Ref(2), 1, -1, True, True), 8, 9, name="topk"),
        call(6, "aten::constant_pad_nd.out", (Ref(1), (0, 0, 1, 1), 0), 10, name="pad"),
        call(
            7,
            "test::everything.out",
            (Ref(1), (1.0, 0.5), (True, False), (0.0, -0.0), (None, None), 1, 1.0, True, Ref(11)),
            12,
            name="all",
        ),
    ]
    return method(values, instructions, (0,), (3, 7, 8, 9, 10, 3, 0), "forward")


def state(*, initial: bool) -> Method:
    """A running sum, and how often it has run; with `initial` both start from a stored content."""
    values = [
        value(0, "x", Role.INPUT, 3),
        holding(1, "total", random(5, 3), Role.STATE) if initial else value(1, "total", Role.STATE, 3),
        value(2, "sum", Role.OUTPUT, 3),
        holding(3, "runs", np.array(7, np.int64), Role.STATE)
        if initial
        else value(3, "runs", Role.STATE, dtype=DType.INT64),
        holding(4, "one", np.array(1, np.int64)),
        value(5, "runs_now", Role.OUTPUT, dtype=DType.INT64),
    ]
    instructions = [
        call(0, "aten::add.out", (Ref(1), Ref(0), 1), 2, name="sum"),
        call(1, "aten::add.out", (Ref(3), Ref(4), 1), 5, name="runs_now"),
        call(2, "aten::copy_", (Ref(1), Ref(2), False), 1, name="keep_total"),
        call(3, "aten::copy_", (Ref(3), Ref(5), False), 3, name="keep_runs"),
    ]
    return method(values, instructions, (0,), (2, 5), "forward")


def branches() -> Method:
    """`x + x` where the first element is positive, else `x * x`, as ExecuTorch lowers torch.cond."""
    values = [
        value(0, "x", Role.INPUT, 4),
        value(1, "head", Role.ACTIVATION),
        value(2, "positive", Role.ACTIVATION, dtype=DType.BOOL),
        value(3, "twice", Role.ACTIVATION, 4),
        value(4, "square", Role.ACTIVATION, 4),
        value(5, "chosen", Role.ACTIVATION, 4),
        value(6, "result", Role.OUTPUT, 2, 2),
    ]
    instructions = [
        call(10, "aten::select_copy.int_out", (Ref(0), 0, 0), 1, name="head"),
        call(11, "aten::gt.Scalar_out", (Ref(1), 0), 2, name="positive"),
        call(12, JUMP_FALSE, (Ref(2), 16)),
        call(13, "aten::add.out", (Ref(0), Ref(0), 1), 3, name="twice"),
        call(14, MOVE, (Ref(3),), 5),
        call(15, JUMP_FALSE, (False, 18)),
        call(16, "aten::mul.out", (Ref(0), Ref(0)), 4, name="square"),
        call(17, MOVE, (Ref(4),), 5),
        call(18, "aten::view_copy.out", (Ref(5), (2, 2)), 6, name="result"),
    ]
    return method(values, instructions, (0,), (6,), "forward")


def loop() -> Method:
    """Doubles x until its sum is above 100; the last instruction jumps back."""
    values = [
        value(0, "x", Role.INPUT, 2),
        value(1, "grown", Role.OUTPUT, 2),
        value(2, "doubled", Role.ACTIVATION, 2),
        value(3, "sum", Role.ACTIVATION),
        value(4, "enough", Role.ACTIVATION, dtype=DType.BOOL),
        value(5, "copy", Role.ACTIVATION, 2),
    ]
    instructions = [
        call(0, MOVE, (Ref(0),), 1),
        call(1, "aten::add.out", (Ref(1), Ref(1), 1), 2, name="doubled"),
        call(2, "aten::sum.IntList_out", (Ref(2), (), False, None), 3, name="sum"),
        call(3, "aten::gt.Scalar_out", (Ref(3), 100), 4, name="enough"),
        call(4, "dim_order_ops::_clone_dim_order.out", (Ref(2), False, (0,)), 5, name="copy"),
        call(5, MOVE, (Ref(5),), 1),
        call(6, JUMP_FALSE, (Ref(4), 1)),
    ]
    return method(values, instructions, (0,), (1,), "forward")


def layouts() -> Method:
    """Constants and activations in channels-last order, and a conversion."""
    values = [
        value(0, "x", Role.INPUT, 1, 3, 4, 5),
        value(1, "x_last", Role.ACTIVATION, 1, 3, 4, 5, order=(0, 2, 3, 1)),
        holding(2, "offset", random(9, 1, 3, 4, 5), order=(0, 2, 3, 1)),
        value(3, "moved", Role.OUTPUT, 1, 3, 4, 5, order=(0, 2, 3, 1)),
    ]
    instructions = [
        call(0, "dim_order_ops::_to_dim_order_copy.out", (Ref(0), False, (0, 2, 3, 1)), 1, name="x_last"),
        call(1, "aten::add.out", (Ref(1), Ref(2), 1), 3, name="moved"),
    ]
    return method(values, instructions, (0,), (3,), "forward")


def shared() -> Method:
    """Two constants with the same bytes in different shapes, one of them an output."""
    data = random(8, 2, 3)
    values = [
        value(0, "x", Role.INPUT, 2, 3),
        holding(1, "table", data),
        holding(2, "row", data.reshape(6)),
        value(3, "sum", Role.OUTPUT, 2, 3),
        value(4, "zero", Role.OUTPUT, 6),
    ]
    instructions = [
        call(0, "aten::add.out", (Ref(0), Ref(1), 1), 3, name="sum"),
        call(1, "aten::sub.out", (Ref(2), Ref(2), 1), 4, name="zero"),
    ]
    return method(values, instructions, (0,), (3, 4, 2), "forward")


def shifted(one: Method, name: str) -> Method:
    """The method under another name, every id and every name its own."""
    ids = {id_: id_ + 10 for id_ in one.values}
    values = {ids[id_]: replace(value, id=ids[id_], name=f"{value.name}_again") for id_, value in one.values.items()}
    instructions = tuple(
        replace(call, args=tuple(substitute(arg, ids) for arg in call.args), outs=tuple(ids[out] for out in call.outs))
        for call in one.instructions
    )
    inputs, outputs = (tuple(ids[id_] for id_ in end) for end in (one.inputs, one.outputs))
    return Method(name, values, instructions, inputs, outputs)


def meter() -> Program:
    """Three methods: `measure` adds to a total and counts its calls, `show` only reads the total, `reset` only writes
    it. A constant and the total are shared, the count is not."""
    scale, total = holding(1, "scale", random(9, 3)), holding(2, "total", random(10, 3), Role.STATE)
    measure = method(
        [
            value(0, "x", Role.INPUT, 3),
            scale,
            total,
            value(3, "scaled", Role.ACTIVATION, 3),
            value(4, "sum", Role.OUTPUT, 3),
            value(5, "calls", Role.STATE, dtype=DType.INT64),
            holding(6, "one", np.array(1, np.int64)),
            value(7, "calls_now", Role.OUTPUT, dtype=DType.INT64),
        ],
        [
            call(0, "aten::mul.out", (Ref(0), Ref(1)), 3, name="scaled"),
            call(1, "aten::add.out", (Ref(2), Ref(3), 1), 4, name="sum"),
            call(2, "aten::add.out", (Ref(5), Ref(6), 1), 7, name="calls_now"),
            call(3, "aten::copy_", (Ref(2), Ref(4), False), 2, name="keep_total"),
            call(4, "aten::copy_", (Ref(5), Ref(7), False), 5, name="keep_calls"),
        ],
        (0,),
        (4, 7),
        "measure",
    )
    show = method(
        [scale, total, value(3, "shown", Role.OUTPUT, 3)],
        [call(0, "aten::div.out", (Ref(2), Ref(1)), 3, name="shown")],
        (),
        (3,),
        "show",
    )
    zeros = holding(8, "zeros", np.zeros(3, np.float32))
    clear = method(
        [total, zeros], [call(0, "aten::copy_", (Ref(2), Ref(8), False), 2, name="keep_total")], (), (), "reset"
    )
    return Program((measure, show, clear))


PROGRAMS: dict[str, Program] = {
    "convolution": Program((convolution(),), {"quantization": "float32"}),
    "arguments": Program((arguments(),)),
    "state": Program((state(initial=False),)),
    "initialised_state": Program((state(initial=True),)),
    "branches": Program((branches(),)),
    "loop": Program((loop(),)),
    "layouts": Program((layouts(),)),
    "shared": Program((shared(),)),
    "meter": meter(),
    "methods": Program(
        (shared(), method([value(0, "x", Role.INPUT, 2)], [], (0,), (0,), "same")),
        {"labels": '["yes", "no"]'},
        {"version": (3,), "rate": (0.5,), "flags": (True, False, None), "pair": (1, "a")},
    ),
}
