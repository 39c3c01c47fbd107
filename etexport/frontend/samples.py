"""`model.npz`: what went into eager PyTorch and what came out, for everything right of the waist to compare with.

Arrays: `input_<i>` and `output_<i>` with samples along the first axis, `labels` where the script has them,
`input_names`, `output_names`, `origin` (where the inputs come from), `min_snr_db` where the script says it, and
`step_<instruction>`: what that instruction of the `.pte` gives for sample 0 in eager PyTorch
(`step_<instruction>_<result>` where it chooses places too). For an int8 program the outputs are those of torchao's
converted network; `float_output_<i>` are those of the float network, and `calibrated` says which samples served as
calibration data.
"""

from __future__ import annotations

import copy
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from etexport.errors import ModelError
from etexport.frontend.mistakes import explain
from etexport.frontend.script import Script
from etexport.program.model import Array, Method

DRAWN = 7
"""How many random inputs join the example inputs where a script has no samples."""

SEED = 2026


@dataclass(frozen=True, eq=False)
class Samples:
    """`inputs[i]` is (samples, *shape of example input i)."""

    inputs: tuple[Tensor, ...]
    labels: Array | None
    origin: str

    def __len__(self) -> int:
        return len(self.inputs[0])


def samples_of(script: Script) -> Samples:
    """The script's samples, checked against its example inputs; without samples(), the example inputs and random ones
    in their range."""
    if script.samples is None:
        drawn = torch.Generator().manual_seed(SEED)
        inputs = tuple(
            torch.stack([example, *(drawn_like(example, drawn) for _ in range(DRAWN))]) for example in script.inputs
        )
        return Samples(inputs, None, f"example_inputs() and {DRAWN} seeded random inputs in their range")
    given, labels = _parts(script)
    inputs = tuple(
        _stacked(script, at, one, example) for at, (one, example) in enumerate(zip(given, script.inputs, strict=True))
    )
    count = len(inputs[0])
    if any(len(one) != count for one in inputs):
        raise _wrong(script, f"the inputs have {' and '.join(str(len(one)) for one in inputs)} samples")
    if count == 0:
        raise _wrong(script, "there are no samples")
    return Samples(inputs, None if labels is None else _labels(script, labels, count), "samples()")


@dataclass(frozen=True, eq=False)
class SizedSamples:
    """The inputs of each sample, whose sizes differ."""

    inputs: tuple[tuple[Tensor, ...], ...]
    origin: str


def is_sized(script: Script) -> bool:
    """Whether sizes of the network's inputs are known at run time only."""
    return script.dynamic_shapes is not None or (
        script.program is not None and any(script.program.range_constraints.values())
    )


def sized_samples(script: Script, method: Method) -> SizedSamples:
    """The script's samples, a tuple of inputs each; without samples(), the example inputs and random ones of the least
    sizes, the largest, and some between."""
    if script.samples is not None:
        return SizedSamples(_sized_rows(script, method), "samples()")
    drawn = torch.Generator().manual_seed(SEED)
    rows = [script.inputs]
    rows += [drawn_sized(script.inputs, method, drawn, part) for part in PARTS]
    return SizedSamples(tuple(rows), f"example_inputs() and {len(rows) - 1} seeded random inputs of other sizes")


def sized_calibration(script: Script, method: Method) -> tuple[tuple[Tensor, ...], ...]:
    """As `calibration_of`: a tuple of inputs each, of its own sizes."""
    rows = _sized_rows(replace(script, samples=script.calibration, samples_from="calibration()"), method)
    _check_finite(script, list(zip(*rows, strict=True)))
    return rows


def _sized_rows(script: Script, method: Method) -> tuple[tuple[Tensor, ...], ...]:
    given = script.samples
    if not isinstance(given, list) or not given:
        what = f"{script.samples_from}: with dynamic_shapes the samples differ"
        raise ModelError(what, where=str(script.path), hint="return a list with a tuple of inputs for each sample")
    rows = tuple(tuple(map(torch.as_tensor, one if isinstance(one, (tuple, list)) else (one,))) for one in given)
    for at, one in enumerate(rows):
        check_row(script, method, f"sample {at}", one)
    return rows


PARTS = (4, 0, 2, 1, 3)
"""Sizes that are drawn: the largest, the least and some between, in quarters of the range."""


def drawn_sized(
    inputs: tuple[Tensor, ...], method: Method, generator: torch.Generator, part: int
) -> tuple[Tensor, ...]:
    """Inputs like these whose sizes are so many quarters of the way from the least to the largest."""
    sizes = [one.least + (one.most - one.least) * part // 4 for one in method.symbols]
    row = []
    for at, example in enumerate(inputs):
        shape = list(example.shape)
        for extent in method.extents:
            if extent.input == at:
                shape[extent.dim] = extent.of(sizes[extent.symbol])
        row.append(drawn_like(example, generator, shape))
    return tuple(row)


def check_row(script: Script, method: Method, which: str, row: tuple[Tensor, ...]) -> None:
    """ModelError for inputs that the method does not take; `which` is as in "sample 3"."""
    if len(row) != len(script.inputs):
        raise _wrong(script, f"{which} has {len(row)} inputs, the example {len(script.inputs)}")
    for number, (one, example) in enumerate(zip(row, script.inputs, strict=True)):
        free = {extent.dim for extent in method.extents if extent.input == number}
        same = one.dim() == example.dim() and all(
            dim in free or one.shape[dim] == example.shape[dim] for dim in range(one.dim())
        )
        if not same or one.dtype != example.dtype:
            raise _wrong(script, f"input {number} of {which} is {one.dtype} {list(one.shape)}")
    known: dict[str, int] = {}
    for extent in method.extents:
        size, symbol = row[extent.input].shape[extent.dim], method.symbols[extent.symbol]
        number, rest = divmod(size - extent.offset, extent.factor)
        there = f"size {extent.dim} of input {extent.input} of {which} is {size}"
        if rest or not symbol.least <= number <= symbol.most:
            least, most = extent.of(symbol.least), extent.of(symbol.most)
            steps = f", in steps of {extent.factor}" if extent.factor > 1 else ""
            raise _wrong(script, f"{there}, and {symbol.name} allows {least} to {most}{steps}")
        if known.setdefault(symbol.name, number) != number:
            raise _wrong(script, f"{there}, and {symbol.name} is {known[symbol.name]} in another input")


def eager_runs(script: Script, samples: SizedSamples) -> list[list[Array]]:
    """What the network gives for each sample, one after the other."""
    model = copy.deepcopy(script.program.module() if script.program is not None else script.model)
    results = []
    with torch.no_grad():
        for at, row in enumerate(samples.inputs):
            try:
                outputs = model(*row)
            except BaseException as error:
                raise explain(error, script.path, f"the model fails on sample {at}") from None
            leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
            results.append([leaf.detach().contiguous().numpy().copy() for leaf in leaves])
    return results


def _parts(script: Script) -> tuple[tuple[Any, ...], Any]:
    """(inputs, labels) of what samples() returned. A pair is that, unless the model has two inputs and the first is an
    array."""
    given, count = _columns(script), len(script.inputs)
    if not isinstance(given, tuple):
        if count > 1:
            raise _wrong(script, f"it returns {type(given).__name__} for {count} inputs")
        return (given,), None
    if count == 1:
        if len(given) not in (1, 2):
            raise _wrong(script, f"it returns {len(given)} things for one input")
        inputs = given[0]
        return (inputs if isinstance(inputs, tuple) and len(inputs) == 1 else (inputs,)), given[1] if len(
            given
        ) == 2 else None
    if len(given) == count and not isinstance(given[0], tuple):
        return given, None
    if len(given) == 2 and isinstance(given[0], tuple) and len(given[0]) == count:
        return given[0], given[1]
    raise _wrong(script, f"it returns {len(given)} things for {count} inputs")


def _columns(script: Script) -> Any:
    """What samples() returned; a dataset, or a list of tuples, as a tuple of the lists of their first, second, ...
    parts."""
    given = script.samples
    if isinstance(given, torch.utils.data.Dataset) and hasattr(given, "__len__"):
        given = [tuple(one) if isinstance(one, list) else one for one in (given[at] for at in range(len(given)))]
    if (
        not isinstance(given, list)
        or not given
        or not all(isinstance(one, tuple) and len(one) == len(given[0]) for one in given)
    ):
        return given
    columns = [list(column) for column in zip(*given, strict=True)]
    inputs = len(script.inputs)
    return (tuple(columns[:inputs]), columns[inputs]) if len(columns) == inputs + 1 else tuple(columns)


def _wrong(script: Script, what: str) -> ModelError:
    hint = (
        "return inputs or (inputs, labels): an array for each input, samples along the first axis, each shaped as "
        "in example_inputs()"
    )
    return ModelError(f"{script.samples_from}: {what}", where=str(script.path), hint=hint)


def _stacked(script: Script, at: int, given: Any, example: Tensor) -> Tensor:
    try:
        if isinstance(given, Tensor):
            tensor = given.detach().cpu()
        elif isinstance(given, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(given))
        else:
            tensor = torch.stack([torch.as_tensor(one).detach().cpu() for one in given])
    except (TypeError, ValueError, RuntimeError) as error:
        raise _wrong(script, f"input {at} is no array: {str(error).splitlines()[0]}") from None
    shape = tuple(example.shape)
    if shape[:1] == (1,) and tuple(tensor.shape[1:]) == shape[1:]:
        tensor = tensor.unsqueeze(1)  # samples without the batch axis of 1
    if tuple(tensor.shape[1:]) != shape:
        raise _wrong(script, f"a sample of input {at} has shape {list(tensor.shape[1:])}, the example {list(shape)}")
    exact = tensor.to(example.dtype)
    both_float = tensor.is_floating_point() and example.is_floating_point()
    if not both_float and not torch.equal(exact.to(tensor.dtype), tensor):
        raise _wrong(script, f"input {at} is {tensor.dtype} and does not fit {example.dtype}")
    return exact


def _labels(script: Script, given: Any, count: int) -> Array:
    labels = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if labels.ndim != 1 or len(labels) != count or labels.dtype.kind not in "iu":
        raise _wrong(
            script,
            f"labels are {labels.dtype} {list(labels.shape)}, not one whole number for each of the {count} samples",
        )
    return labels.astype(np.int64)


def calibration_of(script: Script) -> Samples:
    """The inputs of calibration(), in the form of samples(). ModelError for numbers that have no range."""
    samples = samples_of(replace(script, samples=script.calibration, samples_from="calibration()"))
    _check_finite(script, samples.inputs)
    return samples


def _check_finite(script: Script, inputs: Sequence[Sequence[Tensor] | Tensor]) -> None:
    for at, column in enumerate(inputs):
        # minus infinity is what masks are made of
        if any(one.is_floating_point() and not bool((one < math.inf).all()) for one in column):
            what = f"calibration(): input {at} has plus infinity or NaN, which have no range"
            raise ModelError(what, where=str(script.path))


def check_labels(script: Script, samples: Samples, outputs: tuple[Array, ...]) -> None:
    """ModelError for a label that the first output has no score for: it could never be right. An output of one number
    is its own class."""
    if samples.labels is None or not outputs or outputs[0][0].size < 2:
        return
    classes = outputs[0][0].size
    wrong = np.flatnonzero((samples.labels < 0) | (samples.labels >= classes))
    if wrong.size:
        label = samples.labels[wrong[0]]
        raise _wrong(
            script,
            f"the label of sample {wrong[0]} is {label}, and the output has {classes} classes, 0 to {classes - 1}",
        )


def check_classes(script: Script, outputs: tuple[Array, ...]) -> None:
    """ModelError where the script names more or fewer classes than the first output has elements."""
    count = outputs[0][0].size if outputs else 0
    if script.classes and len(script.classes) != count:
        raise _wrong(script, f"{len(script.classes)} classes are named, and the first output has {count} elements")


def drawn_like(example: Tensor, generator: torch.Generator, sizes: list[int] | None = None) -> Tensor:
    """Like the example, uniformly between its smallest and largest number; round a constant one, one less to one
    more."""
    shape = example.shape if sizes is None else sizes
    if example.dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    finite = example[torch.isfinite(example)] if example.is_floating_point() else example
    low, high = (finite.min().item(), finite.max().item()) if finite.numel() else (0, 0)
    if example.is_floating_point():
        low, high = (low - 1, high + 1) if low == high else (low, high)
        return (low + (high - low) * torch.rand(shape, generator=generator)).to(example.dtype)
    return torch.randint(int(low), int(high) + 1, shape, generator=generator, dtype=torch.int64).to(example.dtype)


def eager_outputs(script: Script, samples: Samples) -> tuple[Array, ...]:
    """What the original network gives, one thread, one sample after the other: a state lives on from one to the
    next."""
    # a copy, because a run changes the states
    model = copy.deepcopy(script.program.module() if script.program is not None else script.model)
    results: list[list[Array]] = []
    with torch.no_grad():
        for at in range(len(samples)):
            try:
                # the memory format of the example is part of the model's interface, and stack() has lost it
                inputs = [_like(one[at], example) for one, example in zip(samples.inputs, script.inputs, strict=True)]
                outputs = model(*inputs)
            except BaseException as error:
                raise explain(error, script.path, f"the model fails on sample {at}") from None
            leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
            results.append([leaf.detach().numpy().copy() for leaf in leaves])
    return tuple(np.stack(column) for column in zip(*results, strict=True))


def _like(sample: Tensor, example: Tensor) -> Tensor:
    return torch.empty_like(example).copy_(sample)


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """The file with arrays in sorted order and no dates: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(arrays[name], order="C"), version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()
