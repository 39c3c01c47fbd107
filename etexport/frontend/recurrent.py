"""Recurrent layers stay operators, one a layer and direction: `etexport::lstm`, `gru` and `rnn` of kernels/recurrent.

Elsewhere, and in files for stock ExecuTorch, PyTorch writes out each step.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

_SCHEMAS = {
    "lstm": "(Tensor input, Tensor hidden, Tensor cell, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? "
    "bias_hh, "
    "Tensor? weight_hr, bool reverse) -> (Tensor, Tensor)",
    "gru": "(Tensor input, Tensor hidden, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, bool "
    "reverse) -> Tensor",
    "rnn": "(Tensor input, Tensor hidden, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, bool "
    "rectify, "
    "bool reverse) -> Tensor",
}
"""The same as in kernels/recurrent/op.py, but for the results."""


@functools.cache
def operators() -> torch.library.Library:
    """Tells PyTorch of the three operators: `torch.ops.etexport.lstm` computes what eager PyTorch computes for that
    layer."""
    library = torch.library.Library("etexport", "FRAGMENT")  # type: ignore[no-untyped-call]
    meanings: dict[str, Callable[..., Any]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
    for name, schema in _SCHEMAS.items():
        library.define(name + schema)  # type: ignore[no-untyped-call]
        library.impl(name, meanings[name], "CPU")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"etexport::{name}", _shapes_of_lstm if name == "lstm" else _shapes, lib=library)
    return library


def recurrent() -> dict[Any, Callable[..., Any]]:
    """Decompositions of PyTorch's recurrent layers into these."""
    operators()
    return {getattr(aten, name).input: layers for name, layers in _WHOLE.items()}


@contextlib.contextmanager
def captured_whole() -> Iterator[None]:
    """While it lasts recurrent layers are these operators as they are traced, for sequences of any number of steps:
    PyTorch writes out the steps of its own as soon as it asks for a shape."""
    operators()
    kept = {name: getattr(torch._VF, name) for name in _WHOLE}

    def traced(name: str) -> Callable[..., Any]:
        def layer(*args: Any) -> Any:
            whole = isinstance(args[3], bool)  # of a packed sequence the weights stand there
            found = _WHOLE[name](*args) if whole else NotImplemented
            return kept[name](*args) if found is NotImplemented else found

        return layer

    try:
        for name in _WHOLE:
            setattr(torch._VF, name, traced(name))
        yield
    finally:
        for name in _WHOLE:
            delattr(torch._VF, name)


# ---- what they compute -----------------------------------------------------------------------------------------------


def _one_layer(
    function: Callable[..., Any], x: Tensor, states: Any, weights: Sequence[Tensor | None], reverse: bool
) -> Any:
    given = [one for one in weights if one is not None]
    walked = x.flip(0) if reverse else x
    out, *last = function(walked, states, given, len(given) > 3, 1, 0.0, False, False, False)
    return (out.flip(0) if reverse else out).contiguous(), *last


def _lstm(
    x: Tensor, hidden: Tensor, cell: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None,
    bias_hh: Tensor | None, weight_hr: Tensor | None, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if weight_hr is not None and bias_ih is None:  # PyTorch tells a bias from a projection by the number of weights
        bias_ih = bias_hh = x.new_zeros(weight_ih.shape[0])
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    out, _, cells = _one_layer(aten.lstm.input, x, [hidden.unsqueeze(0), cell.unsqueeze(0)], weights, reverse)
    return out, cells.squeeze(0).clone()


def _gru(
    x: Tensor,
    hidden: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reverse: bool,
) -> Tensor:
    out: Tensor = _one_layer(aten.gru.input, x, hidden.unsqueeze(0), (weight_ih, weight_hh, bias_ih, bias_hh), reverse)[
        0
    ]
    return out


def _rnn(
    x: Tensor, hidden: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None,
    rectify: bool, reverse: bool,
) -> Tensor:  # fmt: skip
    function = aten.rnn_relu.input if rectify else aten.rnn_tanh.input
    out: Tensor = _one_layer(function, x, hidden.unsqueeze(0), (weight_ih, weight_hh, bias_ih, bias_hh), reverse)[0]
    return out


def _shapes(x: Tensor, hidden: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], hidden.shape[1])


def _shapes_of_lstm(x: Tensor, hidden: Tensor, cell: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _shapes(x, hidden), cell.new_empty(cell.shape)


# ---- layers ----------------------------------------------------------------------------------------------------------


def _layers_of_lstm(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], has_biases: bool, *rest: Any
) -> Any:
    hidden, cells = states
    projects = len(weights) // (rest[0] * (1 + rest[3])) > 2 + 2 * has_biases
    last: list[Tensor] = []

    def one(x: Tensor, state: Tensor, *args: Any) -> Tensor:
        weight_ih, weight_hh, bias_ih, bias_hh, *projection, reverse = args
        out, cell = torch.ops.etexport.lstm(
            x,
            state,
            cells[len(last)],
            weight_ih,
            weight_hh,
            bias_ih,
            bias_hh,
            projection[0] if projects else None,
            reverse,
        )
        last.append(cell)
        found: Tensor = out
        return found

    out, state = _layers(one, x, hidden, weights, has_biases, *rest)
    return out, state, torch.stack(last)


def _layers(
    one: Callable[..., Tensor], x: Tensor, hidden: Tensor, weights: Sequence[Tensor], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    """The results of all layers, and the last states (layers * directions, batch, features). `one` computes one layer
    of one direction."""
    if train and dropout > 0 and layers > 1:
        return NotImplemented
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    x = x.transpose(0, 1) if batch_first else x
    last = []
    for layer in range(layers):
        results = []
        for direction in range(directions):
            at = layer * directions + direction
            of_input, of_state, *others = weights[at * each : (at + 1) * each]
            biases = others[:2] if has_biases else (None, None)
            projection = others[2 * has_biases :]
            results.append(one(x, hidden[at], of_input, of_state, *biases, *projection, bool(direction)))
            last.append(results[-1][0 if direction else -1])
        x = results[0] if directions == 1 else torch.cat(results, dim=-1)
    return x.transpose(0, 1) if batch_first else x, torch.stack(last)


_WHOLE: Mapping[str, Callable[..., Any]] = {
    "lstm": _layers_of_lstm,
    "gru": functools.partial(_layers, lambda *args: torch.ops.etexport.gru(*args)),
    "rnn_tanh": functools.partial(_layers, lambda *args: torch.ops.etexport.rnn(*args[:-1], False, args[-1])),
    "rnn_relu": functools.partial(_layers, lambda *args: torch.ops.etexport.rnn(*args[:-1], True, args[-1])),
}
"""All layers and directions, by PyTorch's name."""
