"""Recurrent layers as the steps that they are: linear layers, sigmoid, tanh, sums and products, each with a scale of its own.

The input's part of all steps is one linear layer; the state's part is one a step, all of them with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

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
    return _layers(lambda part, states, own: (torch.tanh(part + own(states[0])),), x, (state,), fresh, *rest)


def rnn_relu(x: Tensor, state: Tensor, *rest: Any, fresh: bool) -> tuple[Tensor, ...]:
    """aten::rnn_relu.input."""
    return _layers(lambda part, states, own: (torch.relu(part + own(states[0])),), x, (state,), fresh, *rest)


def _lstm_step(part: Tensor, states: States, own: Own) -> States:
    hidden, cell = states
    take, keep, new, give = (part + own(hidden)).chunk(4, dim=-1)
    added = torch.sigmoid(take) * torch.tanh(new)
    cell = added if cell is None else torch.sigmoid(keep) * cell + added
    return torch.sigmoid(give) * torch.tanh(cell), cell


def _gru_step(part: Tensor, states: States, own: Own) -> States:
    (hidden,) = states
    of_state = own(hidden)
    reset, keep, new = part.chunk(3, dim=-1)
    if isinstance(of_state, Tensor):
        own_reset, own_keep, own_new = of_state.chunk(3, dim=-1)
        reset, keep, new = reset + own_reset, keep + own_keep, new + torch.sigmoid(reset + own_reset) * own_new
    candidate, kept = torch.tanh(new), torch.sigmoid(keep)
    return (candidate - kept * candidate if hidden is None else candidate + kept * (hidden - candidate),)


def _layers(
    step: Step, x: Tensor, states: tuple[Tensor, ...], fresh: bool, weights: Sequence[Tensor], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`states` are (layers * directions, batch, features) each; the result is all outputs and then the last states."""
    each = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    time = 1 if batch_first else 0
    last: list[States] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            of_input, of_state, *biases = weights[at * each : (at + 1) * each]
            parts = linear(_in_rows(x), of_input, biases[0] if biases else None).unbind(time)
            current: States = tuple(None if fresh else state[at] for state in states)

            def own(hidden: Tensor | None, of_state: Tensor = of_state, biases: Sequence[Tensor] = biases) -> Tensor | float:
                if hidden is None:
                    return biases[1] if biases else 0.0
                return linear(hidden, of_state, biases[1] if biases else None)

            results = []
            for part in parts[::-1] if direction else parts:
                current = step(part, current, own)
                results.append(current[0])
            outputs.append(torch.stack(results[::-1] if direction else results, dim=time))  # type: ignore[arg-type]
            last.append(current)
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
    return x, *(torch.stack([one[at] for one in last]) for at in range(len(states)))  # type: ignore[misc]


def _in_rows(x: Tensor) -> Tensor:
    """Contiguous: of other rows PyTorch makes a batched product with copies of the weights."""
    return x if x.is_contiguous() else x.clone(memory_format=torch.contiguous_format)
