"""Recurrent layers as the steps that they are: linear layers, sigmoid, tanh, sums and products, each with a scale of
its own.

The input's part of all steps is one linear layer; the state's part is one a step, all of them with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.fx import traceback
from torch.nn.functional import linear

STEP, LAYER = "step", "layer"
"""Annotations of a traced node: what it computes in its step, and which layer and direction the step is of."""
States = tuple["Tensor | None", ...]
"""One for each state of the cell; None where it is all zeros, as at the beginning."""
Own = Callable[["Tensor | None"], "Tensor | float"]
"""What the state adds to the gates."""
Step = Callable[[Tensor, States, Own], States]
"""From the input's part of the gates and the states to the next states, the result first."""


def lstm(x: Tensor, states: Sequence[Tensor], *rest: Any, fresh: bool) -> tuple[Tensor, ...]:
    """aten::lstm.input; `fresh`: the states are zeros."""
    return _layers(_lstm_step, x, tuple(states), fresh, *rest)


def gru(x: Tensor, state: Tensor, *rest: Any, fresh: bool) -> tuple[Tensor, ...]:
    """aten::gru.input."""
    return _layers(_gru_step, x, (state,), fresh, *rest)


def rnn_tanh(x: Tensor, state: Tensor, *rest: Any, fresh: bool) -> tuple[Tensor, ...]:
    """aten::rnn_tanh.input."""
    return _layers(_tanh_step, x, (state,), fresh, *rest)


def rnn_relu(x: Tensor, state: Tensor, *rest: Any, fresh: bool) -> tuple[Tensor, ...]:
    """aten::rnn_relu.input."""
    return _layers(_relu_step, x, (state,), fresh, *rest)


def lstm_cell(x: Tensor, states: Sequence[Tensor], *weights: Tensor) -> tuple[Tensor, ...]:
    """aten::lstm_cell: weights of the input, of the state, and biases of both, which may be missing."""
    hidden, cell = _cell(_lstm_step, x, tuple(states), *weights)
    assert hidden is not None and cell is not None
    return hidden, cell


def gru_cell(x: Tensor, state: Tensor, *weights: Tensor) -> Tensor:
    """aten::gru_cell."""
    return _only(_cell(_gru_step, x, (state,), *weights))


def rnn_tanh_cell(x: Tensor, state: Tensor, *weights: Tensor) -> Tensor:
    """aten::rnn_tanh_cell."""
    return _only(_cell(_tanh_step, x, (state,), *weights))


def rnn_relu_cell(x: Tensor, state: Tensor, *weights: Tensor) -> Tensor:
    """aten::rnn_relu_cell."""
    return _only(_cell(_relu_step, x, (state,), *weights))


def _cell(
    step: Step,
    x: Tensor,
    states: States,
    of_input: Tensor,
    of_state: Tensor,
    bias: Tensor | None = None,
    own_bias: Tensor | None = None,
) -> States:
    def own(hidden: Tensor | None) -> Tensor:
        assert hidden is not None
        return linear(hidden, of_state, own_bias)

    return step(linear(x, of_input, bias), states, own)


def _only(states: States) -> Tensor:
    (state,) = states
    assert state is not None
    return state


def _tanh_step(part: Tensor, states: States, own: Own) -> States:
    with _named("sum"):
        total = part + own(states[0])
    return (torch.tanh(total),)


def _relu_step(part: Tensor, states: States, own: Own) -> States:
    with _named("sum"):
        return (torch.relu(part + own(states[0])),)


def _lstm_step(part: Tensor, states: States, own: Own) -> States:
    hidden, cell = states
    with _named("gates"):
        gates = part + own(hidden)
    take, keep, new, give = gates.chunk(4, dim=-1)
    if cell is None:
        with _named("cell"):
            cell = torch.sigmoid(take) * torch.tanh(new)
    else:
        with _named("added"):
            added = torch.sigmoid(take) * torch.tanh(new)
        with _named("kept"):
            kept = torch.sigmoid(keep) * cell
        with _named("cell"):
            cell = kept + added
    with _named("hidden"):
        return torch.sigmoid(give) * torch.tanh(cell), cell


def _gru_step(part: Tensor, states: States, own: Own) -> States:
    (hidden,) = states
    of_state = own(hidden)
    reset, keep, new = part.chunk(3, dim=-1)
    if isinstance(of_state, Tensor):
        own_reset, own_keep, own_new = of_state.chunk(3, dim=-1)
        with _named("reset"):
            reset = reset + own_reset
        with _named("keep"):
            keep = keep + own_keep
        with _named("own"):
            own_new = torch.sigmoid(reset) * own_new
        with _named("new"):
            new = new + own_new
    candidate, kept = torch.tanh(new), torch.sigmoid(keep)
    if hidden is None:
        with _named("moved"):
            moved = kept * candidate
        with _named("hidden"):
            return (candidate - moved,)
    with _named("difference"):
        difference = hidden - candidate
    with _named("moved"):
        moved = kept * difference
    with _named("hidden"):
        return (candidate + moved,)


def _layers(
    step: Step, x: Tensor, states: tuple[Tensor, ...], fresh: bool, weights: Sequence[Tensor], has_biases: bool,
    layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`states` are (layers * directions, batch, features) each; the result is all outputs and then the last states."""
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)  # an LSTM with projections has one more
    time = 1 if batch_first else 0
    last: list[States] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            of_input, of_state, *others = weights[at * each : (at + 1) * each]
            biases, projections = others[: 2 * has_biases], others[2 * has_biases :]
            parts = linear(_in_rows(x), of_input, biases[0] if biases else None).unbind(time)
            current: States = tuple(None if fresh else state[at] for state in states)

            def own(
                hidden: Tensor | None, of_state: Tensor = of_state, biases: Sequence[Tensor] = biases
            ) -> Tensor | float:
                if hidden is None:
                    return biases[1] if biases else 0.0
                return linear(hidden, of_state, biases[1] if biases else None)

            results = []
            for part in parts[::-1] if direction else parts:
                with traceback.annotate({LAYER: f"{layer}.{direction}"}):
                    current = step(part, current, own)
                    if projections:
                        current = (linear(current[0], projections[0]), *current[1:])  # type: ignore[arg-type]
                results.append(current[0])
            outputs.append(torch.stack(results[::-1] if direction else results, dim=time))  # type: ignore[arg-type]
            last.append(current)
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
    return x, *(torch.stack([one[at] for one in last]) for at in range(len(states)))  # type: ignore[misc]


def _named(name: str) -> AbstractContextManager[None]:
    """What is computed within it has this name in each step."""
    return traceback.annotate({STEP: name})


def _in_rows(x: Tensor) -> Tensor:
    """Contiguous: of other rows PyTorch makes a batched product with copies of the weights."""
    return x if x.is_contiguous() else x.clone(memory_format=torch.contiguous_format)
