"""A decoder of the Llama kind, one layer, a token at a time: its keys and values are states. Seeded weights."""

import torch
from torch import nn
from torch.nn import functional as F

WORDS, WIDTH, HEADS, HIDDEN, LENGTH = 256, 64, 4, 192, 32


def by_heads(rows):
    return rows.reshape(-1, HEADS, WIDTH // HEADS).transpose(0, 1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.before, self.between, self.behind = (nn.RMSNorm(WIDTH, eps=1e-5) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down, self.head = nn.Linear(HIDDEN, WIDTH, bias=False), nn.Linear(WIDTH, WORDS, bias=False)
        self.register_buffer("keys", torch.zeros(LENGTH, WIDTH))
        self.register_buffer("values", torch.zeros(LENGTH, WIDTH))

    def forward(self, word, at):
        x = self.words(word)
        y = self.before(x)
        keys, values = self.keys.index_copy(0, at, self.key(y)), self.values.index_copy(0, at, self.value(y))
        self.keys.copy_(keys)
        self.values.copy_(values)
        query, keys, values = (by_heads(one) for one in (self.query(y), keys, values))
        seen = torch.where(torch.arange(LENGTH) <= at, 0.0, -1e9)
        shares = torch.softmax(query @ keys.transpose(1, 2) / (WIDTH // HEADS) ** 0.5 + seen, -1)
        x = x + self.out((shares @ values).transpose(0, 1).reshape(1, WIDTH))
        y = self.between(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.behind(x))


def model():
    torch.manual_seed(0)
    return Decoder()


def example_inputs():
    return (torch.tensor([1]), torch.tensor([0]))


def samples():
    words = torch.randint(0, WORDS, (16, 1), generator=torch.Generator().manual_seed(1))
    return words, torch.arange(16)[:, None]
