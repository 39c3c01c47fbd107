"""Netron's reader (the JavaScript inside the pip package, run by node) opens what we write, and sees the same graph."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from etexport.program import pte
from etexport.program.model import JUMP_FALSE, MOVE, Method, Role
from etexport.program.operators import WRITE_BACK
from tests.program import stock
from tests.program.programs import PROGRAMS

KNOWN = sorted(set(PROGRAMS) - {"arguments", "initialised_state", "meter"})
"""All but made-up operators and bool lists, which Netron refuses, and state with initial content, which it does not
know (not even ExecuTorch's own).
"""


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Netron's reader is JavaScript: install nodejs to run it")
    return found


def opened(node: str, folder: Path, programs: dict[str, bytes]) -> dict[str, Any]:
    netron = stock.netron() / "netron"
    (netron / "package.json").write_text('{"type": "module"}\n')  # so that node takes its files for what they are
    files = []
    for name, data in programs.items():
        files.append(folder / f"{name}.pte")
        files[-1].write_bytes(data)
    command = [node, str(Path(__file__).with_name("netron_open.mjs")), str(netron), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(zip(programs, map(json.loads, done.stdout.splitlines()), strict=True))


def test_netron_opens_our_files(node: str, tmp_path: Path) -> None:
    found = opened(node, tmp_path, {name: pte.write(PROGRAMS[name]) for name in KNOWN})
    for name in KNOWN:
        assert "error" not in found[name], f"{name}: {found[name]}"
        program = PROGRAMS[name]
        literals = len(program.metadata) + len(program.constant_methods)
        assert len(found[name]["graphs"]) == len(program.methods) + literals
        for method, graph in zip(program.methods, found[name]["graphs"], strict=False):
            assert graph["name"] == method.name
            # Netron draws no jumps and no moves; but what a loop carries into its next round is copied there
            hidden = {JUMP_FALSE} if name == "loop" else {JUMP_FALSE, MOVE}
            drawn = [one.op for one in method.instructions if one.op not in hidden]
            assert graph["nodes"] == [WRITE_BACK if op == MOVE else op for op in drawn]
            assert len(graph["inputs"]) == len(method.inputs)
            assert len(graph["outputs"]) == len(method.outputs)
            seen = sorted(one["bytes"] for one in graph["constants"].values())
            # Netron counts the padding behind a constant as part of it
            assert all(0 <= one - size < 16 for one, size in zip(seen, constant_bytes(method), strict=True)), name


def constant_bytes(method: Method) -> list[int]:
    return sorted(one.spec.nbytes for one in method.values.values() if one.role is Role.CONSTANT)


def test_netron_opens_our_networks(node: str, ours: dict[str, Path], tmp_path: Path) -> None:
    found = opened(node, tmp_path, {name: path.read_bytes() for name, path in ours.items()})
    for name, path in ours.items():
        assert "error" not in found[name], f"{name}: {found[name]}"
        method = pte.read(path.read_bytes()).method()
        assert found[name]["graphs"][0]["nodes"] == [one.op for one in method.instructions]
        assert len(found[name]["graphs"][0]["constants"]) == len(constant_bytes(method))


def test_netron_reads_arguments_by_name(node: str, tmp_path: Path) -> None:
    graph = opened(node, tmp_path, {"convolution": pte.write(PROGRAMS["convolution"])})["convolution"]["graphs"][0]
    convolution = graph["arguments"][0]
    assert convolution["stride"] == convolution["padding"] == [1, 1]
    assert convolution["transposed"] is False
    assert convolution["groups"] == 1


def test_netron_refuses_what_the_documentation_says_it_does(node: str, tmp_path: Path) -> None:
    found = opened(node, tmp_path, {name: pte.write(PROGRAMS[name]) for name in ("arguments", "initialised_state")})
    assert found["initialised_state"]["error"] == "Extra tensor info not implemented."
    assert "not implemented" in found["arguments"]["error"] or "not found" in found["arguments"]["error"]
