"""Bundled programs: both ways, and bytes that are none."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.errors import ProgramError
from etexport.kernel.library import load_ops
from etexport.program import bundled, pte, wire
from tests.specialise.graph import Graph


def program() -> bytes:
    graph = Graph(load_ops())
    return pte.write(graph.program(graph.call("aten::relu.out", graph.input(2, 3))))


def bundle() -> bundled.Bundle:
    drawn = np.random.default_rng(0).standard_normal((3, 2, 3)).astype(np.float32)
    return bundled.Bundle(program(), {"forward": tuple(bundled.Case((x,), (np.maximum(x, 0),)) for x in drawn)})


def test_both_ways() -> None:
    one = bundle()
    data = bundled.write(one)
    assert data[4:8] == b"BP08" and data == bundled.write(one)
    found = bundled.read(data)
    assert found.program == one.program and list(found.cases) == ["forward"]
    for got, wanted in zip(found.cases["forward"], one.cases["forward"], strict=True):
        np.testing.assert_array_equal(got.inputs[0], wanted.inputs[0])
        np.testing.assert_array_equal(got.expected[0], wanted.expected[0])


def test_a_tensor_in_another_order() -> None:
    """Channels last: what lies there is turned into the script's order."""
    array = np.arange(6, dtype=np.int8).reshape(2, 3)
    held = {"scalar_type": 1, "sizes": (2, 3), "data": array.T.tobytes(), "dim_order": b"\x01\x00"}
    case = {"inputs": ({"val": ("BundledTensor", held)},), "expected_outputs": ()}
    suite = {"method_name": "forward", "test_cases": (case,)}
    data = wire.write_bundle({"version": 0, "method_test_suites": (suite,), "program": b"x"})
    np.testing.assert_array_equal(bundled.read(data).cases["forward"][0].inputs[0], array)


def test_whatever_the_bytes_it_is_read_or_refused() -> None:
    data, draw, refused = bundled.write(bundle()), random.Random(0), 0
    for _ in range(2000):
        damaged = bytearray(data[: draw.choice((len(data), draw.randrange(len(data))))])
        for _ in range(draw.randrange(4)):
            if damaged:
                damaged[draw.randrange(min(len(damaged), 200) if draw.random() < 0.5 else len(damaged))] = (
                    draw.randrange(256)
                )
        try:
            bundled.read(bytes(damaged))
        except ProgramError:
            refused += 1
    assert refused > 100


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle becomes a program with samples and back, the same bytes."""
    (tmp_path / "net.bpte").write_bytes(bundled.write(bundle()))
    for arguments in (("net.bpte", "net.pte"), ("net.pte", "again.bpte")):
        given, out = (str(tmp_path / name) for name in arguments)
        assert main(["bundle", given, "-o", out]) == 0
    assert (tmp_path / "again.bpte").read_bytes() == (tmp_path / "net.bpte").read_bytes()
    assert main(["ops", str(tmp_path / "net.bpte")]) == 1
    assert "etexport bundle" in capsys.readouterr().err
