"""Every example, from its script to outputs of the host board that are PyTorch's: the verbs that a person types, in
their order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from etexport.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"

SCRIPTS = sorted(
    path for path in EXAMPLES.glob("*/*.py") if re.search(r"^def (model|methods)\(", path.read_text(), re.M)
)
NAMES = [path.parent.name if path.stem == "model" else path.stem for path in SCRIPTS]


@pytest.mark.parametrize(("name", "script"), list(zip(NAMES, SCRIPTS, strict=True)), ids=NAMES)
def test_from_script_to_equal_outputs(
    name: str, script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, folder = tmp_path / "model" / f"{name}-float32" / "model.pte", tmp_path / "host" / f"{name}-float32"
    sources = [str(script)]
    if "def train(" in script.read_text():
        sources.append(str(tmp_path / "weights.npz"))
        assert main(["train", str(script), "-o", sources[1]]) == 0
    assert main(["export", *sources, "-o", str(program)]) == 0
    assert main(["build", str(program), "--board", "host", "-o", str(folder), "--name", name]) == 0
    samples = ["--samples", "20"] if name == "kws" else []
    assert main(["run", str(folder), *samples]) == 0, capsys.readouterr().err
    assert main(["validate", str(folder), "-o", str(tmp_path / "validate.json")]) == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "validate.json").read_text())
    assert figures["mismatched"] == 0 and figures["samples"] >= 1
    if name == "digits":
        assert figures["samples"] == 360 and figures["accuracy"] == figures["accuracy_eager"] >= 0.97

    # The same outputs, one number changed: exit code 2, and the sample is named.
    with np.load(folder / "outputs.npz") as read:
        outputs = {key: read[key].copy() for key in read.files}
    if "output_0" in outputs:
        last, changed = f"sample {figures['samples'] - 1}", outputs["output_0"][-1]
    else:
        *_, name = (name for name in outputs if name.endswith("_output_0"))
        last, changed = f"call {name.split('_')[1]} (decode)", outputs[name]
    changed.flat[0] += np.float32(0.01) + abs(changed.flat[0])
    np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]
    assert main(["validate", str(folder)]) == 2
    assert f"{last}, output 0" in capsys.readouterr().err
