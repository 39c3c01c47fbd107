"""Whatever way a mask is written, the graph computes what it did, and each softmax reads scores that have a scale and a
condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etexport.frontend.quantize.masks import LOWEST, Masks, masked
from etexport.frontend.quantize.parts import written_out

T, D = 5, 8
INF = math.inf
LEAST = torch.finfo(torch.float32).min
LATER = torch.ones(T, T).triu(1) > 0
DISTANCE = -(torch.arange(T)[:, None] - torch.arange(T)[None]).abs() * 0.5


class Attention(nn.Module):
    """`forward` from queries, keys, values (1, T, D) and what the network gets beside them."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.own = forward
        self.layer = nn.Linear(D, 3 * D)

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.own(*self.layer(x).chunk(3, -1), *more)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / D**0.5


def heads(x: Tensor) -> Tensor:
    return x.view(1, T, 2, D // 2).transpose(1, 2)


def padding(count: int, *, least: int = 1) -> list[Tensor]:
    """(1, T), true for the first tokens."""
    generator = torch.Generator().manual_seed(count)
    return [torch.arange(T)[None] < torch.randint(least, T + 1, (1, 1), generator=generator) for _ in range(count)]


def prepared(forward: Callable[..., Tensor], *more: list[Tensor]) -> tuple[Any, Masks, Callable[[Tensor], Tensor]]:
    """The graph after the rewrite, what was found, and the network."""
    torch.manual_seed(0)
    model = Attention(forward).eval()
    samples = list(zip([torch.randn(1, T, D) for _ in range(6)], *more, strict=False))
    with torch.no_grad():
        graph = written_out(torch.export.export(model, samples[0]).module())
    return graph, masked(graph, samples), model


def softmaxes(graph: Any) -> list[Any]:
    return [node for node in graph.graph.nodes if "softmax" in str(node.target)]


def is_split(graph: Any, masks: Masks) -> bool:
    """Whether each softmax reads the one form, and no scores have an infinite part."""
    found = softmaxes(graph)
    return bool(found) and all(
        node.args[0] in masks.filled and masks.filled[node.args[0]] not in masks.infinite for node in found
    )


FIXED: dict[str, Callable[..., Tensor]] = {
    "added": lambda q, k, v: torch.softmax(scores(q, k) + torch.zeros(T, T).masked_fill(LATER, -INF), -1) @ v,
    "full and triu": lambda q, k, v: torch.softmax(scores(q, k) + torch.full((T, T), LEAST).triu(1), -1) @ v,
    "where": lambda q, k, v: torch.softmax(torch.where(LATER, torch.tensor(-1e4), scores(q, k)), -1) @ v,
    "where of a tensor": lambda q, k, v: torch.softmax(torch.where(~LATER, scores(q, k), torch.full((T, T), -1e9)),
    -1) @ v, "baddbmm": lambda q, k, v: torch.softmax(torch.baddbmm(LATER.float()[None] * -1e9, q, k.mT, alpha=0.3),
    -1) @ v, "before the scale": lambda q, k, v: torch.softmax((q @ k.mT).masked_fill(LATER, -1e9) / 3, -1) @ v,
    "subtracted": lambda q, k, v: torch.softmax(scores(q, k) - 1e9 * LATER, -1) @ v,
    "distances": lambda q, k, v: torch.softmax(scores(q, k) + DISTANCE.masked_fill(LATER, -INF), -1) @ v,
    "distances apart": lambda q, k, v: torch.softmax(scores(q, k) + DISTANCE + LATER.float() * -1e9, -1) @ v,
    "small": lambda q, k, v: torch.softmax(scores(q, k) + LATER.float() * -100, -1) @ v,
    "bounded below": lambda q, k, v: torch.softmax(torch.max(scores(q, k) + LATER.float() * LEAST, torch.tensor(LEAST)),
    -1) @ v, "largest taken off": lambda q, k, v: torch.softmax((s := scores(q, k).masked_fill(LATER,
    -INF)) - s.amax(-1, True), -1) @ v, "in place": lambda q, k,
    v: torch.softmax(scores(q, k).masked_fill_(LATER, -INF), -1) @ v, "two heads": lambda q, k,
    v: torch.softmax(scores(heads(q), heads(k)) + torch.zeros(1, T, T).masked_fill(LATER, -INF), -1) @ heads(v),
    "turned": lambda q, k, v: torch.softmax((k @ q.mT).masked_fill(LATER.mT, -INF).mT, -1) @ v, "causal": lambda q, k,
    v: F.scaled_dot_product_attention(q, k, v, is_causal=True), "given in float": lambda q, k,
    v: F.scaled_dot_product_attention(q, k, v, DISTANCE.masked_fill(LATER, -INF)), "one head for two": lambda q, k,
    v: F.scaled_dot_product_attention(
        heads(q), heads(k)[:, :1], heads(v)[:, :1], ~LATER, enable_gqa=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_masks_that_never_change(name: str) -> None:
    graph, masks, model = prepared(FIXED[name])
    assert is_split(graph, masks), graph.graph
    torch.manual_seed(9)
    x = torch.randn(1, T, D)
    assert torch.allclose(graph(x), model(x), atol=1e-6)


GIVEN: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    "bool": (lambda q, k, v, m: torch.softmax(scores(q, k).masked_fill(~m[:, None], -INF), -1) @ v, lambda m: m),
    "float": (lambda q, k, v, m: torch.softmax(scores(q, k) + (1 - m)[:, None] * -1e9, -1) @ v, Tensor.float),
    "float, -10000": (lambda q, k, v, m: torch.softmax(scores(q, k) + (1 - m)[:, None] * -1e4, -1) @ v, Tensor.float),
    "whole numbers": (lambda q, k, v, m: torch.softmax(scores(q, k) + (1.0 - m[:, None].float()) * LEAST, -1) @ v,
    Tensor.long), "tokens": (lambda q, k, v, m: torch.softmax(scores(q, k).masked_fill((m == 0)[:, None], -INF),
    -1) @ v, lambda m: m * 7), "pairs": (lambda q, k, v, m: torch.softmax(scores(q,
    k).masked_fill((m[:, :, None] * m[:, None]) == 0, -1e9), -1) @ v, Tensor.float),
    "added": (lambda q, k, v, m: torch.softmax(scores(q, k) + m[:, None], -1) @ v,
    lambda m: torch.zeros(1, T).masked_fill(~m, -1e9)), "added, -inf": (lambda q, k, v,
    m: torch.softmax(scores(q, k) + m[:, None], -1) @ v, lambda m: torch.zeros(1, T).masked_fill(~m, -INF)), "a bias": (
        lambda q, k, v, m: torch.softmax(scores(q, k) + m[:, None], -1) @ v,
        lambda m: DISTANCE[:1].masked_fill(~m, -1e9),
    ),
    "and later": (
        lambda q, k, v, m: torch.softmax(scores(q, k) + torch.full((T, T), -INF).triu(1) + (1 - m)[:, None] * -1e9,
        -1) @ v, Tensor.float,
    ),
    "filled into one": (
        lambda q, k, v, m: torch.softmax(
            scores(q, k) + (c := torch.full((T, T), LEAST).triu(1)).masked_fill((c + m[:, None].float()) == 0, LEAST),
            -1
        ) @ v, Tensor.long,
    ),
    "attention": (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m[:, None].expand(1, T, T)), lambda m: m),
}  # fmt: skip


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "never seen"])
@pytest.mark.parametrize("name", GIVEN)
def test_masks_that_are_inputs(name: str, is_seen: bool) -> None:
    forward, given = GIVEN[name]
    if name == "a bias" and not is_seen:
        pytest.skip("nothing tells that an input of ordinary numbers is a mask at times")
    everything = [torch.ones(1, T, dtype=torch.bool)] * 6
    graph, masks, model = prepared(forward, [given(one) for one in (padding(6) if is_seen else everything)])
    assert is_split(graph, masks), graph.graph
    torch.manual_seed(9)
    for mask in padding(4):
        x = torch.randn(1, T, D)
        assert torch.allclose(graph(x, given(mask)), model(x, given(mask)), atol=1e-5)


@pytest.mark.parametrize("name", ["bool", "float", "float, -10000", "whole numbers", "added", "attention"])
def test_rows_that_are_masked_whole(name: str) -> None:
    """As in float, where that is no NaN: equal shares of what has been replaced, zeros of PyTorch's attention, and
    where the numbers that are added leave the scores apart, a softmax of these."""
    forward, given = GIVEN[name]
    graph, masks, model = prepared(forward, [given(one) for one in padding(6)])
    assert is_split(graph, masks)
    x, nothing = torch.randn(1, T, D), given(torch.zeros(1, T, dtype=torch.bool))
    found, expected = graph(x, nothing), model(x, nothing)
    if name != "bool":
        assert torch.allclose(found, expected, atol=2e-3)  # -10000 leaves the scores 10 bits
    else:
        assert expected.isnan().all() and not found.isnan().any()


class Layers(nn.Module):
    def __init__(self, layer: nn.Module, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.own = forward

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.own(self.layer, x, mask)


@pytest.mark.parametrize(
    ("kind", "forward"),
    [
        ("attention", lambda a, x, m: a(x, x, x, attn_mask=LATER)[0]),
        ("attention", lambda a, x, m: a(x, x, x, attn_mask=LATER, need_weights=False)[0]),
        ("attention", lambda a, x, m: a(x, x, x, key_padding_mask=~m, attn_mask=LATER)[0]),
        ("attention", lambda a, x, m: a(x, x, x, key_padding_mask=~m, need_weights=False)[0]),
        ("attention", lambda a, x, m: a(x, x, x, key_padding_mask=~m, average_attn_weights=False)[1]),
        ("encoder", lambda a, x, m: a(x, src_key_padding_mask=~m)),
        ("decoder", lambda a, x, m: a(x, x / 2, tgt_mask=LATER, memory_key_padding_mask=~m)),
    ],
)
def test_layers_of_pytorch(kind: str, forward: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    layers: dict[str, Callable[[], nn.Module]] = {
        "attention": lambda: nn.MultiheadAttention(D, 2, batch_first=True),
        "encoder": lambda: nn.TransformerEncoderLayer(D, 2, 16, batch_first=True),
        "decoder": lambda: nn.TransformerDecoderLayer(D, 2, 16, batch_first=True),
    }
    model = Layers(layers[kind](), forward).eval()
    samples = [(torch.randn(1, T, D), mask) for mask in padding(4)]
    with torch.no_grad():
        graph = written_out(torch.export.export(model, samples[0]).module())
        masks = masked(graph, samples)
        assert is_split(graph, masks) or kind == "decoder"
        assert len(masks.filled) == (2 if kind == "decoder" else 1)
        x = torch.randn(1, T, D)
        assert torch.allclose(graph(x, samples[1][1]), model(x, samples[1][1]), atol=1e-5)


def test_the_range_of_scores_is_that_of_what_is_not_masked() -> None:
    def forward(q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
        return (
            torch.softmax((q @ (k * torch.where(m, 1.0, 1000.0)[:, :, None]).mT).masked_fill(~m[:, None], -INF), -1) @ v
        )

    _, masks, _ = prepared(forward, padding(6))
    ((filled, rest),) = masks.filled.items()
    assert masks.seen[rest].high > 100 * masks.seen[filled].high
    assert masks.seen[filled].minus == (LOWEST,)


def test_scores_without_a_mask_stay_as_they_are() -> None:
    graph, masks, _ = prepared(lambda q, k, v: torch.softmax(scores(q, k) * 30 + DISTANCE, -1) @ v)
    assert not masks.filled and not masks.infinite
    assert "where" not in str(graph.graph)


def test_what_is_no_softmax_keeps_its_infinities() -> None:
    _, masks, _ = prepared(lambda q, k, v: q.masked_fill(q < 0, -INF).amax(-1))
    assert not masks.filled
    assert [str(node.target) for node in masks.infinite if "masked_fill" in str(node.target)]
