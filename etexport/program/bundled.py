"""Bundled programs (`.bpte`, identifier BP08): a program with inputs for its methods and what must come out.

ExecuTorch's devtools write and run them. `read` takes one apart, `write` puts one together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etexport.errors import ProgramError
from etexport.program import wire
from etexport.program.model import Array, DType

VERSION = 0


@dataclass(frozen=True, eq=False)
class Case:
    """One call of a method."""

    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Bundle:
    """`program` is a whole `.pte`; `cases` are by method."""

    program: bytes
    cases: Mapping[str, tuple[Case, ...]]


def read(data: bytes) -> Bundle:
    """ProgramError where the bytes are none, or a value is no tensor of ours."""
    root = wire.read_bundle(data)
    cases = {
        suite["method_name"] or "": tuple(
            Case(*(tuple(map(_array, case[name] or ())) for name in ("inputs", "expected_outputs")))
            for case in suite["test_cases"] or ()
        )
        for suite in root["method_test_suites"] or ()
    }
    return Bundle(bytes(root["program"] or b""), cases)


def write(bundle: Bundle) -> bytes:
    """The same bundle gives the same bytes."""
    suites = tuple(
        {
            "method_name": name,
            "test_cases": tuple(
                {"inputs": tuple(map(_value, one.inputs)), "expected_outputs": tuple(map(_value, one.expected))}
                for one in cases
            ),
        }
        for name, cases in bundle.cases.items()
    )
    return wire.write_bundle({"version": VERSION, "method_test_suites": suites, "program": bundle.program})


def _array(value: wire.Table) -> Array:
    """The tensor in the order of its dimensions in the script."""
    kind, held = value["val"] or ("nothing", value)
    if kind != "BundledTensor":
        raise ProgramError(f"a case has a value that is {kind.removeprefix('Bundled')}, not a tensor")
    try:
        dtype = DType.of_code(held["scalar_type"]).numpy
    except ValueError:
        raise ProgramError(f"a case has a tensor of the unknown type {held['scalar_type']}") from None
    sizes, order, content = tuple(held["sizes"] or ()), tuple(held["dim_order"] or b""), held["data"] or b""
    order = order or tuple(range(len(sizes)))
    if sorted(order) != list(range(len(sizes))) or min(sizes, default=0) < 0:
        raise ProgramError(f"a case has a tensor of sizes {list(sizes)} in the order {list(order)}")
    if len(content) != math.prod(sizes) * dtype.itemsize:
        raise ProgramError(f"a case has {len(content)} bytes for a tensor of sizes {list(sizes)} of {dtype}")
    laid_out = np.frombuffer(content, dtype).reshape([sizes[dim] for dim in order])
    return np.array(np.transpose(laid_out, np.argsort(order)) if order else laid_out, order="C")


def _value(array: Array) -> wire.Table:
    held = {
        "scalar_type": DType.of_numpy(array.dtype).code,
        "sizes": array.shape,
        "data": np.ascontiguousarray(array).tobytes(),
        "dim_order": bytes(range(array.ndim)),
    }
    return {"val": ("BundledTensor", held)}


def stacked(cases: Sequence[Case]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Inputs and expected outputs of all cases, samples first. ProgramError where their shapes differ."""
    columns = []
    for rows in ([one.inputs for one in cases], [one.expected for one in cases]):
        forms = {tuple((array.shape, array.dtype) for array in row) for row in rows}
        if len(forms) > 1:
            raise ProgramError("its cases have inputs or outputs of several shapes or numbers")
        columns.append(tuple(map(np.stack, zip(*rows, strict=True))))
    return columns[0], columns[1]
