"""`model.npz`: samples, and what PyTorch makes of them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from etexport.artifacts.files import Array, numbered, opened
from etexport.artifacts.sized import padded, runs, sizes
from etexport.errors import ModelError

OUR_SAMPLES = "samples()"
"""The function of a script that gives them, as the origin of samples."""

_INTEGERS = ("int8", "uint8", "int16")


@dataclass(frozen=True, eq=False)
class Reference:
    """`model.npz`: what went in and what must come out. The first axis of every array counts samples."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    labels: Array | None = None
    steps: Mapping[int, Array] = field(default_factory=dict)
    """What each instruction of the program gives for sample 0, by handle."""
    choices: Mapping[tuple[int, int], Array] = field(default_factory=dict)
    """The further results of instructions that choose (places of maxima), by handle and number of the result."""
    by: str = "PyTorch"
    """Who computed the outputs; "the host board" for a program that came without eager ones."""
    float_outputs: tuple[Array, ...] = ()
    """What the float network gives, where `outputs` are those of the quantised one."""
    calibrated: Array | None = None
    """Which samples were calibrated with: accuracy is not judged on them."""
    origin: str = OUR_SAMPLES
    """Where the inputs are from."""
    names: tuple[str, ...] = ()
    """Of the outputs."""
    scales: tuple[tuple[float, int], ...] = ()
    """Scale and zero point of each output that is stored in integers, (0, 0) of the others; () where all are as the
    network gives them."""
    min_snr_db: float | None = None
    """What the script asks for at least."""
    noise: tuple[float | None, ...] = ()
    """Root mean square of what lies between `outputs` and `float_outputs`, in the unit of the output, of stored
    integers in steps."""
    calls: tuple[int, ...] = ()
    """Which calls the samples are, where these are calls of one method among several."""
    sizes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    """Shapes of the outputs of each sample, where these differ: then zeros fill the arrays."""
    input_sizes: tuple[tuple[tuple[int, ...], ...], ...] = ()

    @property
    def samples(self) -> int:
        return len(self.inputs[0]) if self.inputs else len(self.outputs[0])


def read_reference(path: Path) -> Reference:
    """Read `model.npz`: arrays `input_<i>`, `output_<i>`, `step_<handle>[_<result>]`, and where there are any `labels`;
    `reference` where the outputs are not eager PyTorch's."""
    with opened(path) as arrays:
        numbers = {name: name.split("_")[1:] for name in arrays.files if name.startswith("step_")}
        steps = {int(one[0]): arrays[name] for name, one in numbers.items() if len(one) == 1}
        choices = {(int(one[0]), int(one[1])): arrays[name] for name, one in numbers.items() if len(one) == 2}
        by = (
            str(arrays["reference"])
            if "reference" in arrays
            else "PyTorch in int8"
            if "float_output_0" in arrays or "run_0_float_output_0" in arrays
            else "PyTorch"
        )
        given, made, real = (runs(arrays, what) for what in ("input", "output", "float_output"))
        return Reference(
            padded(given) if given else numbered(arrays, "input"),
            padded(made) if made else numbered(arrays, "output"),
            arrays.get("labels"),
            steps,
            choices,
            by,
            padded(real) if real else numbered(arrays, "float_output"),
            arrays.get("calibrated"),
            str(arrays["origin"]) if "origin" in arrays else OUR_SAMPLES,
            tuple(str(name) for name in arrays["output_names"]) if "output_names" in arrays else (),
            _scales(arrays),
            float(arrays["min_snr_db"]) if "min_snr_db" in arrays else None,
            noise_of(arrays),
            sizes=sizes(made),
            input_sizes=sizes(given),
        )


def _scales(arrays: Mapping[str, Array]) -> tuple[tuple[float, int], ...]:
    if "output_scales" not in arrays:
        return ()
    pairs = zip(arrays["output_scales"].tolist(), arrays["output_zero_points"].tolist(), strict=True)
    return tuple((float(scale), int(zero_point)) for scale, zero_point in pairs)


def noise_of(arrays: Mapping[str, Array]) -> tuple[float | None, ...]:
    """`Reference.noise` of the arrays of a `model.npz`; None for indices, and for what was never float."""
    found: list[float | None] = []
    outputs, reals = [_whole(arrays, what) for what in ("output", "float_output")]
    for at, (output, real) in enumerate(zip(outputs, reals, strict=False)):
        if real.dtype.kind != "f":
            found.append(None)
            continue
        unit = 1.0
        stored = output.astype(np.float64)
        if output.dtype.name in _INTEGERS:
            unit, stored = float(arrays["output_scales"][at]), stored - float(arrays["output_zero_points"][at])
        apart = stored - real.astype(np.float64) / unit
        finite = apart[np.isfinite(apart)]
        found.append(float(np.sqrt(np.mean(finite**2))) if finite.size else None)
    return tuple(found)


def _whole(arrays: Mapping[str, Array], what: str) -> tuple[Array, ...]:
    """All elements of each output; of samples whose sizes differ behind one another."""
    each = runs(arrays, what)
    return (
        tuple(np.concatenate([one.reshape(-1) for one in column]) for column in zip(*each, strict=True))
        if each
        else numbered(arrays, what)
    )


def first(reference: Reference, samples: int) -> Reference:
    """The reference cut down to its first samples."""
    if samples >= reference.samples:
        return reference
    return replace(
        reference,
        inputs=tuple(array[:samples] for array in reference.inputs),
        outputs=tuple(array[:samples] for array in reference.outputs),
        labels=None if reference.labels is None else reference.labels[:samples],
        float_outputs=tuple(array[:samples] for array in reference.float_outputs),
        calibrated=None if reference.calibrated is None else reference.calibrated[:samples],
        sizes=reference.sizes[:samples],
        input_sizes=reference.input_sizes[:samples],
    )


def read_calls(path: Path, limit: int | None) -> list[tuple[str, tuple[Array, ...]]]:
    """A sequence of calls of methods: `call_<i>_name` and the inputs `call_<i>_input_<j>` of each; empty for a file
    that has samples."""
    found: list[tuple[str, tuple[Array, ...]]] = []
    with opened(path) as arrays:
        while (name := f"call_{len(found)}") + "_name" in arrays and (limit is None or len(found) < limit):
            found.append((str(arrays[f"{name}_name"]), numbered(arrays, f"{name}_input")))
    return found


def read_called(path: Path, methods: Mapping[str, Sequence[int]]) -> dict[str, Reference]:
    """By method what its calls, of these numbers, are to give: these are the samples, and the steps are of the first
    one."""
    with opened(path) as arrays:
        return {name: _reference_of(arrays, name, tuple(calls)) for name, calls in methods.items()}


def _reference_of(arrays: Mapping[str, Array], name: str, calls: tuple[int, ...]) -> Reference:
    inputs, outputs = ([numbered(arrays, f"call_{at}_{what}") for at in calls] for what in ("input", "output"))
    first = f"call_{calls[0]}_step_"
    numbers = {one: one.removeprefix(first).split("_") for one in arrays if one.startswith(first)}
    names = f"output_names_of_{name}"
    return Reference(
        padded(inputs),
        padded(outputs),
        steps={int(number[0]): arrays[one] for one, number in numbers.items() if len(number) == 1},
        choices={(int(number[0]), int(number[1])): arrays[one] for one, number in numbers.items() if len(number) == 2},
        by=str(arrays["reference"]) if "reference" in arrays else "PyTorch",
        origin=str(arrays["origin"]) if "origin" in arrays else "calls()",
        names=tuple(map(str, arrays[names])) if names in arrays else (),
        calls=calls,
        sizes=sizes(outputs),
        input_sizes=sizes(inputs),
    )


def read_samples(path: Path, limit: int | None) -> list[tuple[Array, ...]]:
    """The inputs of each sample: arrays `input_0`, `input_1`, ... of the file, whose first axis counts samples."""
    inputs: list[Array] = []
    try:
        with np.load(path, allow_pickle=False) as file:
            if given := runs(file, "input"):
                return given[:limit]
            while f"input_{len(inputs)}" in file:
                inputs.append(file[f"input_{len(inputs)}"])
        count = min((len(one) for one in inputs), default=1)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        hint = "arrays input_0, input_1, ... with samples along the first axis, as `etexport export` writes them"
        raise ModelError(f"cannot be read: {str(error).partition('.')[0]}", where=str(path), hint=hint) from None
    return [tuple(one[index] for one in inputs) for index in range(min(count, limit or count))]
