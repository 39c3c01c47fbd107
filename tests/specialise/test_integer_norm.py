"""int8 normalisations against torchao's graph, which dequantises, normalises in float32 and quantises: drawn operands,
at most one step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from etexport.kernel.library import load_ops
from etexport.program.model import Array, DType, Program, Ref
from etexport.specialise.integer import fuse_integers
from tests.specialise.graph import Graph, evaluate

LIBRARY = load_ops()
QUANTIZE = "quantized_decomposed::quantize_per_tensor.out"
DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor.out"
INT8 = (-128, 127, DType.INT8.code)


@dataclass(frozen=True, eq=False)
class Norm:
    """`x` is stored int8, (rows, elements) or (images, channels, positions); the parameters are float32 or missing."""

    x: Array
    scale: float
    zero_point: int
    out_scale: float
    out_zero_point: int
    eps: float
    weight: Array | None
    bias: Array | None
    groups: int = 0
    """0 for a layer norm."""

    def real(self) -> torch.Tensor:
        """In float32, as torchao's graph has it."""
        x = (torch.from_numpy(self.x).float() - self.zero_point) * self.scale
        weight, bias = (None if one is None else torch.from_numpy(one) for one in (self.weight, self.bias))
        if self.groups:
            return functional.group_norm(x, self.groups, weight, bias, self.eps)
        return functional.layer_norm(x, x.shape[1:], weight, bias, self.eps)

    def wanted(self) -> Array:
        stored = torch.round(self.real() * float(np.float32(1) / np.float32(self.out_scale))) + self.out_zero_point
        return stored.clamp(-128, 127).numpy().astype(np.int8)

    def graph(self) -> Graph:
        graph = Graph(LIBRARY)
        x = graph.call(
            DEQUANTIZE, graph.input(*self.x.shape, dtype=DType.INT8), self.scale, self.zero_point, *INT8, None
        )
        weight, bias = (None if one is None else graph.constant(one) for one in (self.weight, self.bias))
        if self.groups:
            sizes = (*self.x.shape[:2], math.prod(self.x.shape[2:]))
            norm = graph.call("aten::native_group_norm.out", x, weight, bias, *sizes, self.groups, self.eps)
        else:
            norm = graph.call("aten::native_layer_norm.out", x, self.x.shape[1:], weight, bias, self.eps)
        graph.call(QUANTIZE, norm, self.out_scale, self.out_zero_point, *INT8)
        return graph

    def got(self) -> Array:
        graph = self.graph()
        program = graph.program(Ref(graph.instructions[-1].outs[0]))
        fused, in_float = fuse_integers(program.method(), LIBRARY)
        assert not in_float, in_float
        assert len(fused.instructions) == 1
        (result,) = evaluate(Program((fused,)), LIBRARY, [self.x])
        return np.asarray(result)


def contents(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """int8: anything, the two ends, one that stands out, next to no variance, or none at all in some sets."""
    x = random.integers(-128, 128, shape)
    if kind == "ends":
        x = random.choice([-128, 127], shape)
    elif kind == "one":
        x = np.full(shape, random.integers(-128, 128))
        x[..., random.integers(0, shape[-1])] = random.integers(-128, 128)
    elif kind == "near":
        x = random.integers(0, 3, shape) + random.choice([-128, 0, 125])
    elif kind == "constant":
        x[:1] = random.integers(-128, 128)
    return x.astype(np.int8)


@st.composite
def norms(draw: st.DrawFn) -> Norm:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = draw(st.sampled_from((0, 0, 0, 1, 2, 4)))
    elements = draw(st.one_of(st.integers(1, 12), st.integers(1, 1024)))
    shape = (3, elements) if not groups else (2, groups * draw(st.integers(1, 6)), draw(st.integers(1, 60)))
    kind = draw(st.sampled_from(("any", "ends", "one", "near", "constant")))
    reach = draw(st.sampled_from((0.01, 1.0, 1.0, 3.0, 50.0)))
    parameters = (random.uniform(-reach, reach, shape[1]).astype(np.float32) for _ in range(2))
    weight, bias = (one if draw(st.booleans()) else None for one in parameters)
    out_scale = draw(st.sampled_from((0.004, 0.03, 0.2))) * (reach if weight is not None else 1.0)
    return Norm(
        contents(random, kind, shape), 2.0 ** draw(st.floats(-11.0, 4.0)), draw(st.integers(-128, 127)),
        float(np.float32(out_scale)), draw(st.integers(-128, 127)),
        draw(st.sampled_from((1e-12, 1e-6, 1e-5, 1e-3, 1.0))), weight, bias, groups,
    )  # fmt: skip


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(norms())
def test_at_most_one_step(norm: Norm) -> None:
    apart = np.abs(norm.got().astype(int) - norm.wanted())
    assert apart.max() <= 1, f"{apart.max()} steps in {np.sum(apart > 1)} of {apart.size} elements"


def test_differences_are_ties() -> None:
    """Over many elements next to none differs at all."""
    random = np.random.default_rng(3)
    differing = total = 0
    for elements in (16, 64, 192, 768):
        weight, bias = (random.normal(1, 0.3, elements).astype(np.float32) for _ in range(2))
        x = np.clip(np.rint(random.normal(0, 40, (64, elements))), -128, 127).astype(np.int8)
        norm = Norm(x, 0.02, 3, 0.03, -7, 1e-5, weight, bias)
        differing += np.sum(norm.got() != norm.wanted())
        total += x.size
    assert differing <= 1e-3 * total, f"{differing} of {total}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"eps": 1e30}, "its eps is too large beside the scale of its input"),
        ({"weight": np.full(8, 1e9, np.float32)}, "its weight or its bias is too large beside the result's scale"),
        ({"x": np.zeros((1, 2**14 + 1), np.int8)}, "it normalises 16385 elements at once; integers do for 1 to 16384"),
    ],
)
def test_what_integers_cannot_do_says_so(change: dict[str, object], reason: str) -> None:
    norm = replace(Norm(np.zeros((2, 8), np.int8), 0.1, 0, 0.1, 0, 1e-5, None, None), **change)  # type: ignore[arg-type]
    graph = norm.graph()
    program = graph.program(Ref(graph.instructions[-1].outs[0]))
    _, (only,) = fuse_integers(program.method(), LIBRARY)
    assert only.reason == reason
