"""The stock ExecuTorch, 1.5.1, as a tool of the tests: it is installed into `build/` and used by processes of its own.

Its Python package runs on the project's own pins of torch, torchao, numpy and flatbuffers (seen with these versions),
so only the wheel itself and three pure Python packages are added: 131 MB, some seconds. Its Cortex-M flow needs
tosa-tools and ml_dtypes, which want an older numpy and flatbuffers: all of these lie in a folder of their own, 424 MB,
20 s.

    python -m tests.program.stock        installs, and says where
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etexport.program.model import Array

ROOT = Path(__file__).parents[2]
PINS = ("executorch==1.5.1", "ruamel.yaml==0.19.1", "pyyaml==6.0.3", "tabulate==0.10.0")
INSPECTOR = ("pandas==3.0.5", "python-dateutil==2.9.0.post0", "six==1.17.0")
NETRON = ("netron==9.3.3",)
CORTEX_M = (*PINS, "tosa-tools==2026.5.0", "ml_dtypes==0.5.1", "numpy==2.1.3", "flatbuffers==25.2.10")


def installed(name: str, pins: Sequence[str]) -> Path:
    """A folder with the pinned packages and nothing else; installed by pip when it is not there."""
    folder = ROOT / "build" / "tools" / f"{name}-py{sys.version_info.major}{sys.version_info.minor}"
    stamp = folder / "pins.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(pins):
        return folder
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(aside), *pins]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    (aside / "pins.txt").write_text("\n".join(pins))
    if stamp.is_file() and stamp.read_text() == "\n".join(pins):
        shutil.rmtree(aside)  # another process of the test run was faster
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)
    return folder


def executorch() -> Path:
    return installed("executorch", PINS)


def pandas() -> Path:
    return installed("pandas", INSPECTOR)


def netron() -> Path:
    return installed("netron", NETRON)


def cortex_m() -> Path:
    return installed("executorch-cortex-m", CORTEX_M)


def _run(program: str, *arguments: str, tool: Callable[[], Path] = executorch, more: Sequence[Path] = ()) -> str:
    path = os.pathsep.join(map(str, (tool(), *more, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, (
        f"{program} {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def export(scripts: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """A `.pte` of each model script, by ExecuTorch's default pipeline."""
    pairs = [f"{script}={folder / name}.pte" for name, script in scripts.items()]
    _run("stock_export.py", *pairs)
    return {name: folder / f"{name}.pte" for name in scripts}


def export_cortex_m(scripts: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """An int8 `.pte` of each model script, by ExecuTorch's Cortex-M flow, and beside it the `.npz` of
    `cortex_m_export.py`."""
    pairs = [f"{script}={folder / name}.pte" for name, script in scripts.items()]
    _run("cortex_m_export.py", *pairs, tool=cortex_m)
    return {name: folder / f"{name}.pte" for name in scripts}


def kinds(flow: str, names: Sequence[str], folder: Path) -> dict[str, Path]:
    """A `.pte` of each kind of model in `stock_kinds.py`, by ExecuTorch's float, xnnpack or cortex_m flow, and an
    `.npz` beside it."""
    _run("stock_kinds.py", flow, str(folder), *names, tool=cortex_m if flow == "cortex_m" else executorch)
    lacking = [path.read_text() for path in folder.glob("*.txt")]
    assert not lacking, lacking
    return {name: folder / f"{name}.pte" for name in names}


def define_cortex_m(calls: Sequence[tuple[str, Sequence[Any]]], folder: Path) -> list[Array | str]:
    """What ExecuTorch's Python definitions give for calls (operator, arguments), or why they refuse one. Arrays are
    channels last."""
    arrays: dict[str, Array] = {}
    texts: list[tuple[str, list[Any]]] = []
    for number, (op, args) in enumerate(calls):
        names = {at: f"{number}_{at}" for at, arg in enumerate(args) if isinstance(arg, np.ndarray)}
        arrays.update({name: args[at] for at, name in names.items()})
        texts.append((op, [{"array": names[at]} if at in names else arg for at, arg in enumerate(args)]))
    (folder / "calls.json").write_text(json.dumps(texts))
    np.savez(folder / "arguments.npz", allow_pickle=False, **arrays)
    _run("cortex_m_define.py", str(folder), tool=cortex_m)
    refused = json.loads((folder / "refused.json").read_text())
    with np.load(folder / "results.npz") as results:
        return [refused.get(str(number)) or results[str(number)] for number in range(len(calls))]


def special(folder: Path, *files: Path) -> Any:
    """What `stock_special.py` makes: files with delegates, external data, dynamic shapes and more. By name, the
    delegates and calls that ExecuTorch's reader sees in `files`."""
    _run("stock_special.py", str(folder), *map(str, files))
    return json.loads((folder / "seen.json").read_text())


def inspected(dump: Path, values: Path) -> dict[str, Array]:
    """What `stock_inspect.py` says of an ETDump."""
    out = dump.with_suffix(".npz")
    _run("stock_inspect.py", f"{dump}={values}={out}", more=[pandas()])
    with np.load(out) as arrays:
        return dict(arrays)


def run(jobs: Mapping[Path, Sequence[Sequence[Array]]], folder: Path) -> dict[Path, list[list[Array]]]:
    """The outputs, [run][output], of each file for its inputs, [run][input], in ExecuTorch's runtime with its C++
    checks of the file."""
    for number, runs in enumerate(jobs.values()):
        arrays = {f"{k}_{i}": array for k, inputs in enumerate(runs) for i, array in enumerate(inputs)}
        np.savez(folder / f"in_{number}.npz", allow_pickle=False, **arrays)
    pairs = [f"{path}={folder / f'in_{number}.npz'}={folder / f'out_{number}.npz'}" for number, path in enumerate(jobs)]
    _run("stock_run.py", *pairs)
    found: dict[Path, list[list[Array]]] = {}
    for number, (path, runs) in enumerate(jobs.items()):
        with np.load(folder / f"out_{number}.npz") as arrays:
            found[path] = [[arrays[f"{k}_{i}"] for i in range(int(arrays["outputs"]))] for k in range(len(runs))]
    return found


if __name__ == "__main__":
    print(executorch())
    print(cortex_m())
    print(netron())
    print(pandas())
