"""A report of a real build and run: its sums against the ELF, its counts against the run, its words for what is
missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from etexport.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"
BOARDS = {
    "host": ("gcc", "gcc"),
    "qemu_mps2_an386": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "qemu_virt_rv32": ("riscv64-unknown-elf-gcc", "qemu-system-riscv32"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "model.pte"
    assert main(["export", str(EXAMPLES / "own_project" / "model.py"), "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module", params=BOARDS)
def folder(request: pytest.FixtureRequest, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    board = request.param
    for tool in BOARDS[board]:
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    made = tmp_path_factory.mktemp(board)
    inputs = str(program.with_suffix(".npz"))
    assert main(["build", str(program), "--board", board, "-o", str(made), "--name", "waves"]) == 0
    assert main(["run", str(made), "--inputs", inputs]) == 0
    assert (
        main(["build", str(program), "--board", board, "--sources", str(made), "--probes", "-o", str(made / "profile")])
        == 0
    )
    assert main(["run", str(made / "profile"), "--board", board, "--probes", "--inputs", inputs, "--samples", "1"]) == 0
    assert main(["report", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_flash_adds_up_to_the_loadable_bytes(folder: Path, report: dict[str, Any]) -> None:
    with (folder / "firmware.elf").open("rb") as stream:
        loaded = sum(
            segment["p_filesz"] for segment in ELFFile(stream).iter_segments() if segment["p_type"] == "PT_LOAD"
        )
    flash = report["flash"]
    assert flash["total"] == loaded == flash["runtime"] + flash["kernels"] + flash["constants"] + flash["libc"]
    weights = sum(step["bytes_constants"] for step in json.loads((folder / "memory.json").read_text())["steps"])
    assert flash["constants"] >= weights > 0


def test_every_byte_of_code_has_a_kernel_and_steps(folder: Path, report: dict[str, Any]) -> None:
    memory = json.loads((folder / "memory.json").read_text())
    code = report["code"]
    assert sum(one["bytes"] for one in code) == report["flash"]["kernels"]
    used = {at for one in code for at in one["steps"]}
    assert used == {step["step"] for step in memory["steps"] if step["kind"] == "call"}, "each step runs some"
    for step in memory["steps"]:  # and some of the kernel that it calls
        assert any(step["step"] in one["steps"] and one["kernel"] == step["family"] for one in code), step["name"]


def test_ram_adds_up_to_what_the_elf_reserves(folder: Path, report: dict[str, Any]) -> None:
    ram = report["ram"]
    assert ram["total"] == ram["arena"] + ram["static"] + ram["stack"]
    assert ram["io"] + ram["state"] <= ram["arena"] and 0 < ram["total_without_link"] <= ram["total"]
    if report["board"] == "host":
        return  # the operating system's loader reserves what it likes
    with (folder / "firmware.elf").open("rb") as stream:
        elf = ELFFile(stream)
        # SHF_WRITE and SHF_ALLOC
        sections = [section for section in elf.iter_sections() if section["sh_flags"] & 3 == 3]
        reserved = sum(section["sh_size"] for section in sections if not section["sh_flags"] & 0x400)  # SHF_TLS
    assert ram["total"] == reserved


def test_counts_are_those_of_the_run(folder: Path, report: dict[str, Any]) -> None:
    run, timing = (json.loads((folder / name).read_text()) for name in ("run.json", "timing.json"))
    times = report["board"] == "host"  # what a clock measures is not the same twice, and not in the report
    assert (timing if times else report)["count"] in run["counters"] and report["counter"] == timing["counter"] == run[
        "counter"
    ]
    assert (timing if not times else report)["count"] is None and (timing if not times else report)[
        "init_count"
    ] is None
    assert (report["ops"][0]["count"] is None) == times and (timing["steps"] is None) != times
    assert report["program_hash"] == run["program_hash"]
    assert report["macs"] == sum(op["macs"] for op in report["ops"]) == 5 * 8 * 32 + 8 * 2
    if "icount" in report["counter"]:
        steps = sum(op["count"] for op in report["ops"])
        assert abs(steps - report["count"]) < 0.1 * report["count"] + 100
        assert report["count_per_mac"] == pytest.approx(report["count"] / report["macs"])


def test_a_profile_adds_up_to_the_count(
    folder: Path, program: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In QEMU by function, and each step as the probes counted it; on the host what the probes say."""
    assert main(["profile", str(folder), "--inputs", str(program.with_suffix(".npz"))]) == 0
    said = capsys.readouterr().out
    by = "in steps, by the probes" if report["board"] == "host" else "as the board's own count of this run"
    assert by in said and said.rstrip().endswith("profile.json")
    stacks = [line.rsplit(" ", 1) for line in (folder / "profile.collapsed").read_text().splitlines()]
    total = sum(int(count) for _, count in stacks)
    events = json.loads((folder / "profile.json").read_text())["traceEvents"][1:]
    assert (events[0]["name"], events[0]["ts"], events[0]["dur"]) == ("waves", 0, total)
    ends = [(event["ts"], event["ts"] + event["dur"]) for event in events]
    for at, (begin, end) in enumerate(ends):  # each lies inside another that came before, or beside it
        assert all(last <= begin or (first <= begin and end <= last) for first, last in ends[:at])
    in_steps = {
        op["name"]: sum(int(count) for frames, count in stacks if f" {op['name']} (" in frames) for op in report["ops"]
    }
    if report["board"] == "host":
        run = json.loads((folder / "profile" / "run.json").read_text())
        assert total == sum(run["probes"][0])
        return
    assert total == report["count"] and any("between steps" in frames for frames, _ in stacks)
    for op in report["ops"]:
        assert abs(in_steps[op["name"]] - op["count"]) < 0.1 * op["count"] + 60, (op, in_steps)
    assert len({frames for frames, _ in stacks}) > 2 * len(report["ops"])


def test_another_board_than_it_was_built_for(
    folder: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """By every verb that takes a folder, before anything is started or written."""
    for verb in ("run", "flash", "report", "validate", "profile", "capture"):
        more = ["-o", "x.npz"] if verb == "capture" else ["--dry-run"] if verb == "flash" else []
        assert main([verb, str(folder), "--board", "st_nucleo_f446re", *more]) == 1
        assert f"was built for {report['board']}, not for st_nucleo_f446re" in capsys.readouterr().err


def test_outputs_are_compared(report: dict[str, Any]) -> None:
    compare = report["compare"]
    assert (compare["samples"], compare["mismatched"], compare["first_difference"]) == (24, 0, None)
    assert compare["same_class"] == 24 and compare["accuracy"] is None
    assert 0 < compare["max_abs_error"] < 1e-5 and 0 < compare["tolerance"] < 1e-4
    assert (
        report["plan"]["arena"] == report["ram"]["arena"]
        and report["plan"]["gap"] == report["plan"]["arena"] - report["plan"]["bound"]
    )


def test_the_same_build_and_run_give_the_same_report(folder: Path, program: Path, tmp_path: Path) -> None:
    """Also where it lies elsewhere, and the clock and the line were not the same."""
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    assert main(["run", str(again), "--inputs", str(program.with_suffix(".npz"))]) == 0
    run = json.loads((again / "run.json").read_text())
    (again / "run.json").write_text(json.dumps(run | {"link": run["link"] | {"asked_again": 7, "bad_frames": 3}}))
    assert main(["report", str(again), "--program", str(program), "-q"]) == 0
    for name in ("report.json", "report.html", "report.txt"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
    timing = json.loads((again / "timing.json").read_text())
    assert timing["asked_again"] == 7 and timing["bad_frames"] == 3 and timing["plan_seconds"] >= 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"counters": [0] * 24}, "an inference of 0 instructions cannot be"),
        ({"counters": [-3] * 24}, "an inference of -3 instructions cannot be"),
        ({"init_count": 0}, "a start-up of 0 instructions cannot be"),
        ({"init_count": 4_294_967_226}, "a start-up of 4,294,967,226 instructions cannot be"),
    ],
)
def test_counts_that_cannot_be_are_no_figures(
    folder: Path, program: Path, tmp_path: Path, changed: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(folder, odd)
    run = json.loads((odd / "run.json").read_text())
    (odd / "run.json").write_text(json.dumps(run | changed))
    host = run["board"] == "host"
    assert main(["report", str(odd), "--program", str(program), "-q"]) == (0 if host else 1)
    if host:
        timing = json.loads((odd / "timing.json").read_text())
        assert timing["count" if "counters" in changed else "init_count"] is None
    else:
        assert said in capsys.readouterr().err


def test_a_step_that_takes_longer_than_can_be_is_named(
    folder: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(folder, odd)
    path = odd / "profile" / "run.json"
    run = json.loads(path.read_text())
    run["probes"][0][1] = 4_294_967_226
    path.write_text(json.dumps(run))
    host, name = run["board"] == "host", json.loads((odd / "memory.json").read_text())["steps"][1]["name"]
    assert main(["report", str(odd), "--program", str(program), "-q"]) == (0 if host else 1)
    if host:
        assert json.loads((odd / "timing.json").read_text())["steps"][1] is None
    else:
        assert f"4,294,967,226 instructions for {name} alone cannot be" in capsys.readouterr().err


def test_every_operator_has_a_line_of_the_script(report: dict[str, Any]) -> None:
    assert all(op["source"].split(":")[0] in ("model.py", "wave_layers.py") for op in report["ops"])
    assert any(op["source"].startswith("wave_layers.py:") for op in report["ops"])


def test_another_program_s_run_is_refused(
    folder: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    run = json.loads((mixed / "run.json").read_text())
    (mixed / "run.json").write_text(json.dumps(run | {"program_hash": "0" * 16}))
    assert main(["report", str(mixed), "--program", str(program)]) == 1
    assert "run it again" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["memory.json", "sizes.json", "run.json", "outputs.npz"])
def test_what_is_missing_is_named(
    folder: Path, program: Path, tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    (cut / missing).unlink()
    assert main(["report", str(cut), "--program", str(program)]) == 1
    said = capsys.readouterr().err
    assert missing in said and "hint:" in said and "Traceback" not in said


@pytest.mark.parametrize("emptied", ["memory.json", "sizes.json", "run.json"])
def test_what_lacks_its_fields_is_named(
    folder: Path, program: Path, tmp_path: Path, emptied: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    (cut / emptied).write_text("{}")
    assert main(["report", str(cut), "--program", str(program)]) == 1
    said = capsys.readouterr().err
    assert (
        f"{emptied}: cannot be read: Object missing required field" in said
        and "hint:" in said
        and "Traceback" not in said
    )


def test_an_image_of_another_program_is_not_run(
    folder: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    memory = json.loads((mixed / "memory.json").read_text())
    (mixed / "memory.json").write_text(json.dumps(memory | {"program_hash": "0123456789abcdef"}))
    (mixed / "run.json").unlink()
    assert main(["run", str(mixed), "--inputs", str(program.with_suffix(".npz"))]) == 1
    said = capsys.readouterr().err
    assert (
        "the folder's is 0123456789abcdef" in said
        and memory["program_hash"] in said
        and not (mixed / "run.json").exists()
    )


def test_fewer_samples_are_compared_with_the_first(folder: Path, program: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(folder, few)
    (few / "build.json").unlink()  # as scons leaves a folder: its board is known by name
    with np.load(few / "outputs.npz") as read:
        np.savez(few / "outputs.npz", output_0=read["output_0"][:5])
    assert main(["validate", str(few), "--program", str(program), "-o", str(few / "validate.json")]) == 0
    assert json.loads((few / "validate.json").read_text())["samples"] == 5
