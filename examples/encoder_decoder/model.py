"""Two methods that share weights and state: `encode` reads a window of measurements, `decode` says one word about it at
a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS, FEATURES, WIDTH, WORDS = 12, 6, 16, 10
BEGIN = 1


class Describe(nn.Module):
    """A decoder that attends to what the encoder has left, and remembers what it has said."""

    context: Tensor
    said: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(FEATURES, WIDTH)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        self.speak = nn.Linear(WIDTH, WORDS)
        self.register_buffer("context", torch.zeros(STEPS, WIDTH))
        self.register_buffer("said", torch.zeros(1, WIDTH))

    def encode(self, window: Tensor) -> Tensor:
        self.context.copy_(torch.tanh(self.read(window)))
        self.said.zero_()
        return self.context.mean(0)

    def decode(self, word: Tensor) -> Tensor:
        found = torch.softmax(self.said @ self.context.T, 1) @ self.context
        self.said.copy_(self.cell(self.words(word) + found, self.said))
        return torch.softmax(self.speak(self.said), 1)


class Method(nn.Module):
    """One method of a module as a module, for `methods()`."""

    def __init__(self, whole: nn.Module, name: str) -> None:
        super().__init__()
        self.whole, self.name = whole, name

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = getattr(self.whole, self.name)(*inputs)
        return result


def network() -> Describe:
    torch.manual_seed(0)
    return Describe().requires_grad_(False)


def methods() -> dict[str, object]:
    """Both on one network, so that weights are stored once and states are the same bytes; and two numbers that a caller
    may ask the file for."""
    whole = network()
    return {
        "encode": (Method(whole, "encode"), (torch.zeros(STEPS, FEATURES),)),
        "decode": (Method(whole, "decode"), (torch.tensor([BEGIN]),)),
        "begin": BEGIN,
        "words": WORDS,
    }


def calls() -> list[tuple[str, tuple[Tensor, ...]]]:
    """Three windows with five words about each, every word chosen by the one before; then all begins anew."""
    whole, random = network(), torch.Generator().manual_seed(1)
    made: list[tuple[str, tuple[Tensor, ...]]] = []
    for _ in range(3):
        window, word = torch.randn(STEPS, FEATURES, generator=random), torch.tensor([BEGIN])
        made.append(("encode", (window,)))
        whole.encode(window)
        for _ in range(5):
            made.append(("decode", (word,)))
            word = whole.decode(word).argmax(1)
    return [*made, ("init", ()), made[1]]
