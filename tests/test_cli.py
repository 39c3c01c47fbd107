"""The command line as a person meets it: exit codes, one-line errors, no torch where none is needed."""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from etexport.cli.parser import VERBS, parse
from tests.pace import pace

ROOT = Path(__file__).parents[1]


def etexport(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "etexport", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=env, stdin=subprocess.DEVNULL, check=False
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By its purpose, an example that can be typed, and what the exit codes mean."""
    with pytest.raises(SystemExit) as ended:
        parse([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and f"usage: etexport {verb}" in text and "exit codes: 0 good" in text
    example = importlib.import_module(f"etexport.cli.{verb}").EXAMPLE
    assert f"\n  {example}\n" in text
    words = shlex.split(re.sub(r"^eval .*\((.*)\).*$", r"\1", example))
    assert words[0] == "etexport" and parse(words[1:]).verb == verb


def complete(*words: str) -> list[str]:
    """What bash proposes for the last word, by the script that `etexport completion bash` prints."""
    script = etexport("completion", "bash").stdout
    asked = (
        f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _etexport; printf '%s\\n' ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_shell_completes_verbs_options_and_boards() -> None:
    assert complete("etexport", "va") == ["validate"] and set(complete("etexport", "")) == set(VERBS)
    assert complete("etexport", "build", "x.pte", "--board", "qemu_mps2_an38") == ["qemu_mps2_an385", "qemu_mps2_an386"]
    assert complete("etexport", "build", "x.pte", "--optimize", "s") == ["speed", "size"]
    assert complete("etexport", "validate", "--ju") == ["--junit"] and complete("etexport", "boards", "rpi") == [
        "rpi_pico"
    ]


def test_help_lists_every_verb() -> None:
    text = etexport("--help").stdout
    assert all(f"\n    {verb}" in text for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["no-such-verb"], 1, "no verb is called 'no-such-verb'; there are export, train"),
        (["biuld"], 1, "no verb is called 'biuld'; did you mean build?"),
        (["generate"], 1, "required"),
        (["generate", "missing.pte", "--board", "host", "-o", "out"], 1, "missing.pte: no such file"),
        (["boards", "qemu_mps2_an368"], 1, "no board is called 'qemu_mps2_an368'"),
        (["run", ".", "--samples", "-3"], 1, "-3 is not positive"),
        (["run", ".", "--only", "x.json"], 1, "--only: is for runs with --probes and without --samples"),
        (["run", ".", "--only", "x.json", "--probes", "--samples", "2"], 1, "without --samples"),
        (["run", ".", "--inputs", "text.npz"], 1, "text.npz: cannot be read"),
        (["validate", "."], 1, "not known what this was built from\n  hint: give --program;"),
        (["run", "."], 1, "not known what this was built from\n  hint: give --inputs and --board;"),
        (["generate", "text.npz", "--board", "host", "-o", "out"], 1, "text.npz: the file identifier is"),
        (["ops", "text.npz"], 1, "text.npz: the file identifier is"),
        (["export", "a.py", "b.py", "-o", "a.pte"], 1, "2 scripts and 1 outputs"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(tmp_path: Path, arguments: list[str], code: int, what: str) -> None:
    (tmp_path / "text.npz").write_text("not arrays", encoding="utf-8")
    done = etexport(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert what in done.stderr and "Traceback" not in done.stderr
    assert "hint:" in done.stderr or "no such file" in done.stderr


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    done = etexport("export", ROOT / "examples" / "add" / "model.py", "-o", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}: is a folder, a file belongs there\n  hint: -o {tmp_path / 'model.pte'}\n"


def test_a_program_that_is_none_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.pte").write_bytes(b"not a program")
    done = etexport("generate", tmp_path / "x.pte", "--board", "host", "-o", tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_no_mistake_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    script = ROOT / "examples/add/model.py"
    done = etexport("export", script, "-o", tmp_path / "file" / "x.pte")
    assert done.returncode == 1 and f"error: {tmp_path}/file" in done.stderr and "mistake" not in done.stderr


def test_a_full_disk_is_no_mistake_of_ours() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "etexport", "boards"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
    assert (
        done.returncode == 1
        and done.stderr.startswith("error: No space left on device\n  hint: ")
        and "mistake" not in done.stderr
    )


def test_a_missing_compiler_is_exit_code_5_and_names_its_package(tmp_path: Path) -> None:
    (tmp_path / "x.pte").write_bytes(b"")
    done = etexport(
        "build", tmp_path / "x.pte", "--board", "qemu_mps2_an386", "-o", tmp_path / "out", PATH=str(tmp_path)
    )
    assert done.returncode == 5
    assert "arm-none-eabi-g++ is not installed" in done.stderr and "apt-get install gcc-arm-none-eabi" in done.stderr


COMPUTED = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hyper = nn.Linear(6, 24)

    def forward(self, x):
        kernel = self.hyper(x[0]).mean(0).view(2, 4, 3)
        return nn.functional.conv1d(x[:, :4], kernel)

def model(): return Net()
def example_inputs(): return torch.ones(1, 5, 6)
def calibration(): return torch.randn(32, 1, 5, 6)
"""


def test_what_no_build_would_take_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from etexport.__main__ import main

    (tmp_path / "net.py").write_text(COMPUTED, encoding="utf-8")
    for quantize in ("float32", "int8"):
        assert main(["export", str(tmp_path / "net.py"), "-o", str(tmp_path / "net.pte"), "--quantize", quantize]) == 1
        said = capsys.readouterr().err
        assert (
            "net.py:11: convolution (aten::convolution.out): the weight is not a constant of the model\n  hint: "
            in said
        ), said
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_a_bug_is_one_line_unless_debug_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from etexport import __main__
    from etexport.cli import boards

    def broken(args: object) -> int:
        raise ValueError("two\nlines")

    monkeypatch.setattr(boards, "main", broken)
    assert __main__.main(["boards"]) == 1
    said = capsys.readouterr().err
    assert "test_cli.py" in said and "ValueError: two lines" in said and "please report it" in said
    with pytest.raises(ValueError, match="two"):
        __main__.main(["--debug", "boards"])


def test_boards_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys; from etexport.__main__ import main; main(['boards']); print(sorted({'torch', 'numpy', "
        "'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    times = []
    for _ in range(5):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        etexport("boards")
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
    # processor time, so that other work does not count: 0.12 s on an idle machine
    assert min(times) < 0.3 * pace(), times


def test_generate_loads_no_torch(tmp_path: Path) -> None:
    rooms = "etexport.stages.generate, etexport.emit, etexport.specialise.pipeline, etexport.plan, etexport.program.pte"
    code = f"import sys; import {rooms}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_boards_and_ops_as_json() -> None:
    boards = json.loads(etexport("boards", "--json").stdout)
    assert {"host", "qemu_mps2_an386"} <= set(boards) and boards["host"]["core"] == "host"
    ops = json.loads(etexport("ops", "--json").stdout)
    assert any(op["name"] == "aten::add.out" and op["family"] for op in ops)


def test_doctor_names_what_is_missing_and_what_mends_it(tmp_path: Path) -> None:
    whole = etexport("doctor", "--json")
    tools = {tool["name"]: tool for tool in json.loads(whole.stdout)}
    assert tools["python"]["found"] and "arm-none-eabi-g++" in tools
    bare = etexport("doctor", PATH=str(tmp_path))
    assert bare.returncode == 5
    assert "MISSING" in bare.stdout and "sudo apt-get install --no-install-recommends qemu-system-arm" in bare.stdout
