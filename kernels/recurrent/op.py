"""Layers of LSTM, GRU and plain recurrent cells over a whole sequence, one direction each: the operators of PyTorch's,
layer by layer.

ExecuTorch has none: there each step is written out, so that code and constants grow with the sequence. Here the weights
are there once, and beside its input and its results a layer takes a few vectors of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from etexport.kernel.call import Call, Const, GeometryField, Operand, Read, Scratch, Target, Write
from etexport.kernel.cases import Case, Draw, T
from etexport.kernel.node import Node
from etexport.kernel.op import InferredSpec, Layout, Op
from etexport.program.model import Array, DType, Value
from etexport_kernels.convolution.packing import PORTABLE_TILES, pack_layer, tiles_for

_LSTM = (
    "etexport::lstm.out(Tensor input, Tensor hidden, Tensor cell, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
    "Tensor? bias_hh, "
    "Tensor? weight_hr, bool reverse, *, Tensor(a!) out, Tensor(b!) out_cell) -> (Tensor(a!), Tensor(b!))"
)
_GRU = (
    "etexport::gru.out(Tensor input, Tensor hidden, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? "
    "bias_hh, bool reverse, *, "
    "Tensor(a!) out) -> Tensor(a!)"
)
_RNN = (
    "etexport::rnn.out(Tensor input, Tensor hidden, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? "
    "bias_hh, bool rectify, "
    "bool reverse, *, Tensor(a!) out) -> Tensor(a!)"
)

# ---- shapes ----------------------------------------------------------------------------------------------------------


def _result(node: Node, gates: int) -> tuple[int, ...]:
    """The shape of the results: (steps, batch, features)."""
    given, of_input, of_state = (node[name].spec.shape for name in ("input", "hidden", "weight_ih"))
    weights = node["weight_hh"].spec.shape
    if len(given) != 3 or len(of_input) != 2 or len(of_state) != 2 or len(weights) != 2 or of_state[0] % gates:
        raise node.error(
            "the input is (steps, batch, features), the state (batch, features), weights are (gates, features)"
        )
    steps, batch, inputs = given
    hidden = of_state[0] // gates
    result = weights[1]
    if steps < 1:
        raise node.error("a sequence of no steps")
    if of_state[1] != inputs or of_input != (batch, result) or weights[0] != of_state[0]:
        raise node.error(
            f"weights {list(of_state)} and {list(weights)} do not fit {list(given)} with a state {list(of_input)}"
        )
    for name in ("bias_ih", "bias_hh"):
        if node[name] is not None and node[name].spec.shape != of_state[:1]:
            raise node.error(f"{name} {list(node[name].spec.shape)} for {of_state[0]} gates")
    if result != hidden and node.operands.get("weight_hr") is None:
        raise node.error(f"a state of {result} features where {hidden} belong")
    return steps, batch, result


def _infer(gates: int) -> Callable[[Node], tuple[InferredSpec, ...]]:
    def infer(node: Node) -> tuple[InferredSpec, ...]:
        return ((node["input"].spec.dtype, _result(node, gates)),)

    return infer


def _infer_lstm(node: Node) -> tuple[InferredSpec, ...]:
    shape = _result(node, 4)
    hidden = node["weight_ih"].spec.shape[0] // 4
    projection, cells = node["weight_hr"], (shape[1], hidden)
    if projection is not None and projection.spec.shape != (shape[2], hidden):
        raise node.error(f"a projection {list(projection.spec.shape)} of {hidden} features to {shape[2]}")
    if node["cell"].spec.shape != cells:
        raise node.error(f"cells {list(node['cell'].spec.shape)} where {list(cells)} belong")
    dtype = node["input"].spec.dtype
    return (dtype, shape), (dtype, cells)


# ---- calls -----------------------------------------------------------------------------------------------------------


def _data(node: Node, name: str) -> Array:
    """A weight's content."""
    data: Array | None = node[name].data
    if data is None:
        raise node.error(f"{name} is not a constant of the model", "weights of recurrent layers are fixed")
    return data


def _bias(node: Node, name: str, length: int) -> Array:
    return np.zeros(length, np.float32) if node[name] is None else _data(node, name)


def _state(value: Value) -> Operand:
    return Read(value.id) if value.data is None else Const("state", value.data)


Layer = tuple[Array, Array]
"""A matrix and a bias."""


def _parts(node: Node, gates: int) -> tuple[Layer, Layer]:
    """Weights and bias of the input, and those of the state."""
    of_input, of_state = ((_data(node, f"weight_{of}"), _bias(node, f"bias_{of}", gates)) for of in ("ih", "hh"))
    return of_input, of_state


def _joined(of_input: Layer, of_state: Layer) -> Layer:
    """The layer of input and state behind each other."""
    return np.concatenate((of_input[0], of_state[0]), axis=1), of_input[1] + of_state[1]


def _call(node: Node, target: Target, name: str, layers: Sequence[Layer], call: _Operands, more: Fields) -> Call:
    """`layers` are matrices with biases, in the order in which the kernel takes them; `call` has what comes before and
    behind them."""
    steps, batch, inputs = node["input"].spec.shape
    tiles = {tiles_for(target, weight, bias) for weight, bias in layers}
    variant, core, lanes = tiles.pop() if len(tiles) == 1 else PORTABLE_TILES
    packed = [pack_layer(weight[None], bias[None], variant, lanes) for weight, bias in layers]
    constants = [
        Const(f"{what}_{at}", array) for at, pair in enumerate(packed) for what, array in zip(_NAMES, pair, strict=True)
    ]
    result = node.out.spec.shape[2]
    geometry: Fields = {
        "steps": steps,
        "batch": batch,
        "inputs": inputs,
        "hidden": result,
        "result": result,
        "reverse": node["reverse"],
    }
    states = [_state(node[one]) for one in ("hidden", "cell") if one in node.operands]
    operands = (*call.outs, Read(node["input"].id), *states, *constants, *call.behind)
    header = "recurrent/recurrent.h" if variant == "portable" else f"recurrent/{variant}.h"
    macs = steps * batch * sum(weight.size for weight, _ in layers)
    return Call(f"{name}<et::{core}>", header, {**geometry, **more}, operands, None, macs, variant)


Fields = dict[str, GeometryField]
_NAMES = ("weight", "bias")


@dataclass(frozen=True)
class _Operands:
    """Of a call: the results, and what comes behind the weights."""

    outs: tuple[Operand, ...]
    behind: tuple[Operand, ...] = ()


def _lower_lstm(node: Node, target: Target) -> Call:
    gates, inputs = node["weight_ih"].spec.shape
    (batch, hidden), result = node.outs[1].spec.shape, node.out.spec.shape[2]
    layers = [_joined(*_parts(node, gates))]
    projects, unread = node["weight_hr"] is not None, 1 in node.unused_outs
    if projects:
        layers.append((_data(node, "weight_hr"), np.zeros(result, np.float32)))
    cell: Operand = Const("cell", None) if unread else Write(node.outs[1].id)
    nothing = () if projects else (Const("projection", None), Const("no_bias", None))
    scratch = Scratch(DType.FLOAT32, batch * (inputs + result + hidden * (4 + projects + unread)))
    return _call(
        node, target, "lstm", layers, _Operands((Write(node.out.id), cell), (*nothing, scratch)), {"hidden": hidden}
    )


def _lower_gru(node: Node, target: Target) -> Call:
    gates, inputs = node["weight_ih"].spec.shape
    batch, hidden = node["hidden"].spec.shape
    of_input, of_state = _parts(node, gates)
    (first, fresh), (own_first, own) = (
        ((matrix[: 2 * hidden], bias[: 2 * hidden]), (matrix[2 * hidden :], bias[2 * hidden :]))
        for matrix, bias in (of_input, of_state)
    )
    scratch = Scratch(DType.FLOAT32, batch * (inputs + 5 * hidden))
    return _call(
        node, target, "gru", (_joined(first, own_first), fresh, own), _Operands((Write(node.out.id),), (scratch,)), {}
    )


def _lower_rnn(node: Node, target: Target) -> Call:
    gates, inputs = node["weight_ih"].spec.shape
    layers = (_joined(*_parts(node, gates)),)
    scratch = Scratch(DType.FLOAT32, node["hidden"].spec.shape[0] * (inputs + gates))
    return _call(
        node, target, "rnn", layers, _Operands((Write(node.out.id),), (scratch,)), {"rectify": node["rectify"]}
    )


# ---- meaning ---------------------------------------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = 1 / (1 + np.exp(-x))
    return found


def _walked(x: Array, reverse: bool, step: Callable[[Array], Array]) -> Array:
    """The results of a step for each part of the sequence, in the sequence's order."""
    found: Array = np.zeros(0)
    order = range(len(x))[::-1] if reverse else range(len(x))
    results = {at: step(x[at].astype(np.float64)) for at in order}
    found = np.stack([results[at] for at in range(len(x))])
    return found.astype(x.dtype)


def _sums(x: Array, weight: Array, bias: Array | None) -> Array:
    product: Array = x @ weight.T.astype(np.float64)
    return product if bias is None else product + bias


def _reference_lstm(
    x: Array, hidden: Array, cell: Array, of_input: Array, of_state: Array, bias: Array | None, own_bias: Array | None,
    projection: Array | None, reverse: bool,
) -> tuple[Array, Array]:  # fmt: skip
    state, cells = hidden.astype(np.float64), cell.astype(np.float64)

    def step(part: Array) -> Array:
        nonlocal state, cells
        take, keep, new, give = np.split(_sums(part, of_input, bias) + _sums(state, of_state, own_bias), 4, axis=1)
        cells = _sigmoid(keep) * cells + _sigmoid(take) * np.tanh(new)
        state = _sigmoid(give) * np.tanh(cells)
        state = state if projection is None else _sums(state, projection, None)
        return state

    out = _walked(x, reverse, step)
    return out, cells.astype(x.dtype)


def _reference_gru(
    x: Array, hidden: Array, of_input: Array, of_state: Array, bias: Array | None, own_bias: Array | None, reverse: bool
) -> Array:
    state = hidden.astype(np.float64)

    def step(part: Array) -> Array:
        nonlocal state
        reset, keep, new = np.split(_sums(part, of_input, bias), 3, axis=1)
        own_reset, own_keep, own_new = np.split(_sums(state, of_state, own_bias), 3, axis=1)
        update = _sigmoid(keep + own_keep)
        state = (1 - update) * np.tanh(new + _sigmoid(reset + own_reset) * own_new) + update * state
        return state

    return _walked(x, reverse, step)


def _reference_rnn(
    x: Array,
    hidden: Array,
    of_input: Array,
    of_state: Array,
    bias: Array | None,
    own_bias: Array | None,
    rectify: bool,
    reverse: bool,
) -> Array:
    state = hidden.astype(np.float64)

    def step(part: Array) -> Array:
        nonlocal state
        total = _sums(part, of_input, bias) + _sums(state, of_state, own_bias)
        state = np.maximum(total, 0) if rectify else np.tanh(total)
        return state

    return _walked(x, reverse, step)


# ---- cases -----------------------------------------------------------------------------------------------------------


def _weights(gates: int, inputs: int, hidden: int, result: int, biases: bool) -> tuple[T | None, ...]:
    """Small ones, so that a state neither grows over the steps nor lies where functions are flat."""
    of_input, of_state = (T((gates * hidden, size), low=-0.5, high=0.5, constant=True) for size in (inputs, result))
    bias = T((gates * hidden,), low=-0.5, high=0.5, constant=True) if biases else None
    return of_input, of_state, bias, bias


def _case(
    kind: str, steps: int, batch: int, inputs: int, hidden: int, *, biases: bool = True, reverse: bool = False,
    fresh: bool = False, result: int = 0, rectify: bool = False, note: str = "",
) -> Case:  # fmt: skip
    features = result or hidden
    zero = T((batch, features), low=0.0, high=0.0, constant=True)
    state = zero if fresh else T((batch, features), low=-1.0, high=1.0)
    x, cell = T((steps, batch, inputs)), T((batch, hidden), low=-1.0, high=1.0)
    weights = _weights({"lstm": 4, "gru": 3, "rnn": 1}[kind], inputs, hidden, features, biases)
    projection = T((result, hidden), low=-0.5, high=0.5, constant=True) if result else None
    if kind == "lstm":
        return Case((x, state, cell, *weights, projection, reverse), note)
    return Case((x, state, *weights, *((rectify,) if kind == "rnn" else ()), reverse), note)


def _draw(kind: str) -> Callable[[Draw], Case]:
    def draw(draw: Draw) -> Case:
        steps, batch, inputs, hidden = draw.integer(1, 5), draw.integer(1, 3), draw.integer(1, 19), draw.integer(1, 20)
        # PyTorch takes a projection for one only where it has fewer features
        result = draw.integer(1, hidden - 1) if kind == "lstm" and hidden > 1 and draw.flag() else 0
        biases, reverse, fresh, rectify = draw.flag(), draw.flag(), draw.flag(), draw.flag()
        return _case(
            kind, steps, batch, inputs, hidden, biases=biases, reverse=reverse, fresh=fresh, result=result,
            rectify=rectify
        )  # fmt: skip

    return draw


def _length(node: Node) -> int:
    """Of all sums, one behind the other, that a result goes through."""
    steps = node["input"].spec.shape[0]
    return int(steps * (node["weight_ih"].spec.shape[1] + node["weight_hh"].spec.shape[1] + 2))


OPS = [
    Op(
        _LSTM,
        infer=_infer_lstm,
        lower=_lower_lstm,
        reference=_reference_lstm,
        layout=Layout.CONTIGUOUS,
        sum_length=_length,
        cases=(
            _case("lstm", 10, 1, 13, 32, fresh=True, note="from a state of zeros"),
            _case("lstm", 4, 2, 5, 7, reverse=True, note="backwards, two sequences, nothing is a multiple of four"),
            _case("lstm", 3, 1, 6, 8, result=3, note="a projection"),
            _case("lstm", 1, 1, 1, 1, biases=False, note="one number, no bias"),
        ),
        draw=_draw("lstm"),
    ),
    Op(
        _GRU,
        infer=_infer(3),
        lower=_lower_gru,
        reference=_reference_gru,
        layout=Layout.CONTIGUOUS,
        sum_length=_length,
        cases=(
            _case("gru", 10, 1, 13, 32, fresh=True, note="from a state of zeros"),
            _case("gru", 4, 2, 5, 7, reverse=True, biases=False, note="backwards, two sequences, no bias"),
        ),
        draw=_draw("gru"),
    ),
    Op(
        _RNN,
        infer=_infer(1),
        lower=_lower_rnn,
        reference=_reference_rnn,
        layout=Layout.CONTIGUOUS,
        sum_length=_length,
        cases=(
            _case("rnn", 10, 1, 13, 32, note="tanh"),
            _case("rnn", 4, 2, 5, 7, rectify=True, reverse=True, note="ReLU, backwards, two sequences"),
        ),
        draw=_draw("rnn"),
    ),
]
