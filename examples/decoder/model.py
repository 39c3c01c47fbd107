"""A small language model: two layers as in Llama (RMS norms, rotary positions, gated feed-forward), 259 thousand
parameters, with a key-value cache. A call takes one character and gives the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, HIDDEN, LAYERS = 96, 4, 300, 2
LENGTH = 64
"""Characters that the cache remembers, those of the prompt too."""

TEXT = (
    "the kettle sings, the window fogs, a small board counts its cycles by the lamp. "
    "one row of keys, one row of values, nothing moves that stays where it was. "
)
PROMPT = "the kettle"
CHARACTERS = 128
STEPS = 120


class Attention(nn.Module):
    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(HEADS, LENGTH, WIDTH // HEADS), persistent=False)

    def forward(self, x: Tensor, at: Tensor, turn: Tensor) -> Tensor:
        """One character, x (1, width), at place `at` (1): its key and value are put into the cache, which is read up to
        there."""
        query, key = (turned(one(x).reshape(HEADS, 1, -1), turn) for one in (self.query, self.key))
        self.keys.index_copy_(1, at, key)
        self.values.index_copy_(1, at, self.value(x).reshape(HEADS, 1, -1))
        seen = torch.arange(LENGTH).reshape(1, -1, 1) <= at
        scores = self.keys @ query.transpose(1, 2) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(~seen, -1e9).softmax(1)
        return self.out((weights.transpose(1, 2) @ self.values).reshape(1, -1))

    def all_at_once(self, x: Tensor, turn: Tensor) -> Tensor:
        """The same for texts as they are learned, x (texts, characters, width)."""
        query, key, value = (
            one(x).reshape(*x.shape[:2], HEADS, -1).transpose(1, 2) for one in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(turned(query, turn), turned(key, turn), value, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.before, self.between = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def mixed(self, x: Tensor) -> Tensor:
        x = self.between(x)
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Decoder(nn.Module):
    place: Tensor
    turns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.last = nn.RMSNorm(WIDTH)
        angles = torch.arange(LENGTH).outer(10000.0 ** -torch.linspace(0, 1, WIDTH // HEADS // 2))
        self.register_buffer("turns", torch.stack([angles.cos(), angles.sin()], 1), persistent=False)
        self.register_buffer("place", torch.zeros(1, dtype=torch.long), persistent=False)

    def forward(self, character: Tensor) -> tuple[Tensor, Tensor]:
        """The character that follows, (1), and the score of each, (1, characters)."""
        x, turn = self.embedding(character), self.turns.index_select(0, self.place)
        for layer in self.layers:
            x = x + layer.attention(layer.before(x), self.place, turn[0])
            x = x + layer.mixed(x)
        scores = self.last(x) @ self.embedding.weight.t()
        self.place.copy_((self.place + 1) % LENGTH)  # a board that goes on begins anew
        return scores.argmax(1), scores

    def all_at_once(self, characters: Tensor) -> Tensor:
        x, turn = self.embedding(characters), self.turns[: characters.shape[1]].unbind(1)
        for layer in self.layers:
            x = x + layer.attention.all_at_once(layer.before(x), turn)
            x = x + layer.mixed(x)
        return self.last(x) @ self.embedding.weight.t()


def turned(x: Tensor, turn: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Rotary positions: each pair of numbers, one from either half, turned by the angle of its place."""
    (first, second), (cos, sin) = x.chunk(2, -1), turn
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def codes(text: str) -> Tensor:
    return torch.tensor(list(text.encode("ascii")))


def train() -> dict[str, np.ndarray]:
    """Learns TEXT by heart, from windows of it that begin anywhere."""
    torch.manual_seed(0)
    net = Decoder()
    nn.init.normal_(net.embedding.weight, std=0.05)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    text = codes(TEXT * 2)
    for _ in range(STEPS):
        first = torch.randint(len(TEXT), (12, 1))
        windows = text[first + torch.arange(LENGTH + 1)]
        found = net.all_at_once(windows[:, :-1])
        loss = functional.cross_entropy(found.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().numpy() for name, value in net.state_dict().items()}


def model(weights: Mapping[str, np.ndarray] | None = None) -> nn.Module:
    net = Decoder()
    weights = train() if weights is None else weights
    net.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return net.eval()


def example_inputs() -> tuple[Tensor]:
    return (codes("t"),)


def samples() -> Tensor:
    """The prompt and what the text goes on with, a character each: one sequence."""
    return codes(TEXT[:LENGTH]).unsqueeze(1)
