"""Model scripts as text, exported into a folder of the test, and run by the operators' numpy meanings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etexport.frontend import export
from etexport.kernel.library import load_ops
from etexport.program.model import Array, Program, Ref, Role
from etexport.program.pte import read

LIBRARY = load_ops()


def script(folder: Path, text: str, name: str = "model.py") -> Path:
    """Writes the text as it stands (its first line is line 1 of the file)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def forward_script(folder: Path, body: str, *inputs: str, init: str = "", more: str = "") -> Path:
    """A model whose `forward(self, x, y)` returns `body`; `inputs` are expressions for the example inputs, `init`
    statements by `;`."""
    names = ", ".join("xyz"[: len(inputs)])
    lines = ["import torch", "from torch import nn", "from torch.nn import functional as F", more]
    lines += ["class Model(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    lines += [f"        {line.strip()}" for line in init.split(";") if line.strip()]
    lines += [f"    def forward(self, {names}):", f"        return {body}"]
    lines += [
        "def model():",
        "    return Model()",
        "def example_inputs():",
        "    torch.manual_seed(1)",
        f"    return ({', '.join(inputs)},)",
    ]
    return script(folder, "\n".join(lines) + "\n")


def exported(path: Path, out: Path | None = None, **how: Any) -> tuple[Program, dict[str, Array]]:
    """The program and the arrays that export writes, read back."""
    out = out or path.parent / "out" / "model.pte"
    export(path, out, **how)
    return read_back(out)


def read_back(pte: Path) -> tuple[Program, dict[str, Array]]:
    with np.load(pte.with_suffix(".npz")) as arrays:
        return read(pte.read_bytes()), {name: arrays[name] for name in arrays.files}


def run(program: Program, samples: Sequence[Sequence[Array]]) -> tuple[list[list[Array]], list[list[Array]]]:
    """Outputs of each sample, and the first result of each instruction for the first sample. States live on between
    samples."""
    method = program.method()
    known: dict[int, Any] = {value.id: value.data for value in method.values.values() if value.data is not None}
    blank = [value for value in method.values.values() if value.role is Role.STATE and value.data is None]
    known.update({value.id: np.zeros(value.spec.shape, value.spec.dtype.numpy) for value in blank})
    outputs: list[list[Array]] = []
    steps: list[list[Array]] = []

    def resolve(arg: Any) -> Any:
        if isinstance(arg, Ref):
            return known[arg.id]
        return tuple(resolve(item) for item in arg) if isinstance(arg, tuple) else arg

    for inputs in samples:
        known.update(zip(method.inputs, inputs, strict=True))
        for instruction in method.instructions:
            args = [resolve(arg) for arg in instruction.args]
            if instruction.op == "aten::copy_":
                results: Any = args[1]
            else:
                op = LIBRARY.find(instruction.op)
                assert op is not None and op.reference is not None, instruction.where
                results = op.reference(*args)
            results = results if isinstance(results, tuple) else (results,)
            for out, result in zip(instruction.outs, results, strict=False):
                # as constant folding stores it
                known[out] = np.asarray(result).astype(method.values[out].spec.dtype.numpy, copy=False)
            if not outputs:
                steps.append([known[out] for out in instruction.outs])
        outputs.append([known[out] for out in method.outputs])
    return outputs, steps


def agrees(program: Program, arrays: dict[str, Array], tolerance: float = 1e-5) -> None:
    """Every output of every sample is eager PyTorch's, and every traced step too."""
    count = len(program.method().inputs)
    samples = [
        [np.asarray(arrays[f"input_{at}"][number]) for at in range(count)] for number in range(len(arrays["input_0"]))
    ]
    outputs, steps = run(program, samples)
    for at in range(len(program.method().outputs)):
        for number, result in enumerate(outputs):
            close(result[at], arrays[f"output_{at}"][number], tolerance)
    traced = [name for name in arrays if name.startswith("step_")]
    assert traced or not program.method().instructions
    for name in traced:
        _, handle, *further = name.split("_")
        close(steps[int(handle)][int(*further)], arrays[name], tolerance)


def close(got: Array, expected: Array, tolerance: float) -> None:
    finite = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3) if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * finite)


def layout(program: Program) -> list[str]:
    return [instruction.op for instruction in program.method().instructions]
