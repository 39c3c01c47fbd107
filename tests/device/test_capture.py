"""Captures: what comes is in the file at once, what does not come is a gap, and PyTorch is asked afterwards."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etexport.__main__ import main
from etexport.artifacts.captured import Captured, create, read_captured, recover
from etexport.board import load_board
from etexport.device.capture import Total, repeated, stream
from etexport.device.launch import launch
from etexport.device.messages import layout
from etexport.device.session import Line
from etexport.errors import DeviceLostError, EtError, ModelError
from etexport.resources import kernel_folders, root
from etexport.toolchain import gcc
from tests.device.conftest import Firmware
from tests.device.proxy import Pty
from tests.device.test_link import _reset
from tests.device.tiny import expected, sample

LINEAR = root() / "examples" / "linear" / "model.py"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".jsonl"])
def test_every_format_has_every_record(firmware: Firmware, tmp_path: Path, suffix: str) -> None:
    board, elf = firmware("host")
    path = tmp_path / f"x{suffix}"
    out = create(path)
    began = time.time()
    total = stream(elf, board, Line(), repeated([sample(0), sample(1)], 5, None), out, print)
    out.close()
    assert total == Total(5, 0)
    wanted = [expected(sample(index % 2), index + 1) for index in range(5)]
    if suffix == ".npz":
        with np.load(path) as arrays:
            for at in range(2):
                np.testing.assert_array_equal(arrays[f"output_{at}"], np.stack([one[at] for one in wanted]))
                np.testing.assert_array_equal(
                    arrays[f"input_{at}"], np.stack([sample(index % 2)[at] for index in range(5)])
                )
            assert arrays["sequence"].tolist() == arrays["run"].tolist() == [1, 2, 3, 4, 5]
            assert arrays["board"].tolist() == ["host"] * 5 and int(arrays["program_hash"][0]) == 0x0123456789ABCDEF
            assert all(began <= at <= time.time() for at in arrays["time"]) and (np.diff(arrays["time"]) > 0).all()
    elif suffix == ".jsonl":
        for index, row in enumerate(rows(path)):
            assert (row["kind"], row["sequence"], row["program_hash"]) == ("record", index + 1, "0123456789abcdef")
            assert np.array(row["outputs"][0], np.float32).tobytes() == wanted[index][0].tobytes()
            assert row["outputs"][1] == wanted[index][1].tolist()
    else:
        with path.open(newline="") as file:
            for index, line in enumerate(csv.DictReader(file)):
                assert (line["kind"], line["run"], line["board"]) == ("record", str(index + 1), "host")
                assert [int(line[f"output_1[{at}]"]) for at in range(600)] == wanted[index][1].tolist()
    assert not list(tmp_path.glob("*.journal"))


def test_a_reset_is_a_gap_and_it_goes_on(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("qemu_mps2_an386")
    assert board.simulator is not None
    path = tmp_path / "x.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as qmp_listener:
        qmp = ("-qmp", f"tcp:127.0.0.1:{qmp_listener.getsockname()[1]}")
        simulator = dataclasses.replace(board.simulator, arguments=(*board.simulator.arguments, *qmp))
        with launch(dataclasses.replace(board, simulator=simulator), elf) as running:
            resets: list[int] = []

            def reset(records: int) -> None:
                if records == 5:
                    _reset(qmp_listener)
                    resets.append(records)

            out = create(path)
            total = stream(elf, board, Line(running.url), repeated([sample(3)], 12, None), out, print, progress=reset)
            out.close()
    assert resets and total == Total(12, 1)
    told = rows(path)
    gaps = [at for at, row in enumerate(told) if row["kind"] == "gap"]
    assert gaps == [5] and told[5]["before"] == 6 and "reset" in told[5]["reason"]
    records = [row for row in told if row["kind"] == "record"]
    assert [row["sequence"] for row in records] == list(range(1, 13))
    assert [row["boot"] for row in records] == [1] * 5 + [2] * 7
    assert [row["run"] for row in records] == [1, 2, 3, 4, 5, *range(1, 8)]
    for row in records:
        assert row["outputs"][1] == expected(sample(3), row["run"])[1].tolist()


def test_a_pulled_cable_is_waited_for(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("qemu_virt_rv32")
    link, path = tmp_path / "port", tmp_path / "x.npz"
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(launch(board, elf))
        first = stack.enter_context(Pty(running.url))
        link.symlink_to(first.device)

        def plug_in() -> None:
            link.unlink()
            link.symlink_to(stack.enter_context(Pty(running.url)).device)

        def pull(records: int) -> None:
            if records == 3:
                first.__exit__()
                threading.Timer(1.0, plug_in).start()

        out = create(path)
        total = stream(elf, board, Line(str(link)), repeated([sample(1)], 6, None), out, print, progress=pull)
        out.close()
    assert total == Total(6, 1)
    with np.load(path) as arrays:
        assert arrays["gap_before"].tolist() == [4] and 0.9 < arrays["gap_seconds"][0] < 15
        assert "the connection broke" in str(arrays["gap_reason"][0])
        assert arrays["boot"].tolist() == [1] * 6  # nobody reset it
        for run, got in zip(arrays["run"], arrays["output_1"], strict=True):
            np.testing.assert_array_equal(got, expected(sample(1), int(run))[1])


def test_a_board_that_stays_away_ends_it_with_what_there_is(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("host")
    with launch(board, elf) as running, Pty(running.url) as line:
        out = create(tmp_path / "x.jsonl")
        with pytest.raises(DeviceLostError, match=r"nothing came back in 1 s, 2 records are kept"):
            stream(
                elf, board, Line(line.device), repeated([sample(0)], None, 60), out, print,
                wait_s=1.0, progress=lambda records: line.unplug() if records == 2 else None,
            )  # fmt: skip
        out.close()
    assert len(rows(tmp_path / "x.jsonl")) == 2


def folder_of(elf: Path, folder: Path) -> Path:
    """What the verb needs of a build folder, and inputs."""
    folder.mkdir()
    (folder / "firmware.elf").write_bytes(elf.read_bytes())
    (folder / "firmware.elf").chmod(0o755)
    columns = zip(*(sample(index) for index in range(3)), strict=True)
    np.savez(folder / "inputs.npz", **{f"input_{at}": np.stack(column) for at, column in enumerate(columns)})
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".jsonl"])
def test_a_host_that_is_killed_loses_nothing(firmware: Firmware, tmp_path: Path, suffix: str) -> None:
    """kill -9 while records come: each that was told of is there, and what is there is whole. Until then nobody else
    writes to it."""
    _, elf = firmware("host")
    folder, path = folder_of(elf, tmp_path / "build"), tmp_path / f"x{suffix}"
    command = [
        sys.executable,
        "-m",
        "etexport",
        "capture",
        str(folder),
        "--board",
        "host",
        "--inputs",
        str(folder / "inputs.npz"),
    ]
    process = subprocess.Popen(
        [*command, "-o", str(path), "--for", "60"], stdout=subprocess.PIPE, text=True, cwd=root()
    )
    assert process.stdout is not None
    told = 0
    while told < 64:
        told = int(process.stdout.readline().split(": ")[1].split()[0])
    with pytest.raises(ModelError, match="another capture is writing to it"):
        create(path, overwrite=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if suffix == ".npz":
        with np.load(path) as arrays:  # readable as it is, with all but the last of it
            assert len(arrays["sequence"]) > 0
        assert recover(path) >= told
        captured = read_captured(path)
        assert len(captured.outputs[0]) >= told
        for at, got in enumerate(captured.outputs[1]):
            np.testing.assert_array_equal(got, expected(sample(at % 3), at + 1)[1])
    elif suffix == ".jsonl":
        assert [row["sequence"] for row in rows(path)][:told] == list(range(1, told + 1))
    else:
        with path.open(newline="") as file:
            assert [int(line["sequence"]) for line in csv.DictReader(file)][:told] == list(range(1, told + 1))


def test_a_full_disk_keeps_whole_lines(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("host")
    path = tmp_path / "x.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        out = create(path)
        with pytest.raises(EtError, match=r"cannot be written: .*; \d+ entries are in it") as caught:
            stream(elf, board, Line(), repeated([sample(0)], 1000, None), out, print)
        out.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 1 and str(path) in str(caught.value)
    kept = int(re.search(r"(\d+) entries", str(caught.value))[1])  # type: ignore[index]
    assert [row["sequence"] for row in rows(path)] == list(range(1, kept + 1)) and kept > 2


def test_a_full_disk_for_real(firmware: Firmware, tmp_path: Path) -> None:
    """A file system of 400 KB: lines are whole, the journal of an `.npz` is kept and becomes one once there is room."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    _, elf = firmware("host")
    build = folder_of(elf, tmp_path / "build")
    small = tmp_path / "small"
    small.mkdir()
    capture = f"{sys.executable} -m etexport capture {build} --board host --inputs {build}/inputs.npz --records 1000"
    script = f"""mount -t tmpfs -o size=400k tmpfs {small} || exit 99
        {capture} -o {small}/x.jsonl; echo "code $?"; cp {small}/x.jsonl {tmp_path}/kept.jsonl; rm {small}/x.jsonl
        {capture} -o {small}/x.npz; echo "code $?"; cp {small}/x.npz.journal {tmp_path}/"""
    done = subprocess.run([unshare, "-rm", "sh", "-c", script], cwd=root(), capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert said.count("code 1") == 2 and "Traceback" not in said, said
    lines = int(
        re.search(
            r"x\.jsonl: cannot be written: No space left on device; (\d+) "
            r"entries",
            said,
        )[1]
    )  # type: ignore[index]
    assert [row["sequence"] for row in rows(tmp_path / "kept.jsonl")] == list(range(1, lines + 1)) and lines > 10
    assert re.search(r"x\.npz: cannot be (made|written): No space left on device; \d+ entries are in", said), said
    assert recover(tmp_path / "x.npz") > 10
    for at, got in enumerate(read_captured(tmp_path / "x.npz").outputs[1]):
        np.testing.assert_array_equal(got, expected(sample(at % 3), at + 1)[1])


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.npz.journal").write_bytes(b"left")
    with pytest.raises(ModelError, match=r"is there already(.|\n)*--recover"):
        create(tmp_path / "x.npz")
    (tmp_path / "y.csv").write_text("mine")
    with pytest.raises(ModelError, match="--overwrite"):
        create(tmp_path / "y.csv")
    create(tmp_path / "y.csv", overwrite=True).close()
    assert (tmp_path / "y.csv").read_text() == ""
    with pytest.raises(ModelError, match=r"is captured to \.npz, \.csv, \.jsonl, not to \.txt"):
        create(tmp_path / "z.txt")


# ---- a firmware of one's own -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The build folder of the linear example on the host, and what a program of one's own says of eight runs of it."""
    where = tmp_path_factory.mktemp("own")
    program, folder = where / "model.pte", where / "build"
    assert main(["export", str(LINEAR), "-o", str(program)]) == 0
    assert main(["build", str(program), "--board", "host", "--name", "linear", "-o", str(folder)]) == 0
    board, objects = load_board("host"), []
    for source in (folder / "program.cpp", folder / "constants.S", Path(__file__).with_name("own_capture.cpp")):
        objects.append(where / f"{source.stem}.o")
        gcc.run(gcc.compile_command(board, source, objects[-1], folder, kernel_folders(), {}), board)
    gcc.run(
        [gcc.tool(board, "gcc"), *gcc.link_flags(board), *map(str, objects), "-lm", "-o", str(where / "own")], board
    )
    return folder, subprocess.run([where / "own"], capture_output=True, check=True).stdout


def listened(folder: Path, said: bytes, out: Path, *more: str) -> tuple[int, str]:
    """Exit code and all words of a capture of these bytes."""
    with Pty(None) as line:
        command = [
            sys.executable,
            "-m",
            "etexport",
            "capture",
            str(folder),
            "--listen",
            "-o",
            str(out),
            "--port",
            line.device,
            *more,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root())
        time.sleep(4.0)  # until it has the port: a terminal that nobody has open keeps 4 KB at most
        for at in range(0, len(said), 1000):
            line.say(said[at : at + 1000])
            time.sleep(0.05)
        words, _ = process.communicate(timeout=120)
    return process.returncode, words


def frames(said: bytes) -> list[bytes]:
    """The pieces between delimiters, each with its own."""
    return [b"\0" + block + b"\0" for block in said.split(b"\0") if block]


def test_a_firmware_of_one_s_own_is_captured_and_compared(own: tuple[Path, bytes], tmp_path: Path) -> None:
    folder, said = own
    code, words = listened(folder, said, tmp_path / "x.npz", "--records", "8", "--compare", str(LINEAR))
    assert code == 0, words
    assert "all 8 records agree with PyTorch" in words and "the board says: ready" in words
    captured = read_captured(tmp_path / "x.npz")
    assert captured.inputs[0].shape == (8, 1, 16) and captured.outputs[0].shape[0] == 8 and not captured.gaps


def test_lost_frames_and_resets_of_it_are_gaps(own: tuple[Path, bytes], tmp_path: Path) -> None:
    folder, said = own
    pieces = frames(said)
    with_frames = [at for at, piece in enumerate(pieces) if b"ready" not in piece]
    # the fourth run: an input and an output
    lost = [piece for at, piece in enumerate(pieces) if at not in with_frames[6:8]]
    code, words = listened(folder, b"".join(lost + lost), tmp_path / "x.npz", "--records", "14")
    assert code == 0, words
    captured: Captured = read_captured(tmp_path / "x.npz")
    assert len(captured.outputs[0]) == 14
    assert list(captured.gaps) == [
        "1 runs were lost: 4 to 4",
        "the board was reset: after run 8 came run 1",
        "1 runs were lost: 4 to 4",
    ]


def test_outputs_that_are_wrong_are_found(own: tuple[Path, bytes], tmp_path: Path) -> None:
    folder, said = own
    assert listened(folder, said, tmp_path / "x.npz", "--records", "8")[0] == 0
    with np.load(tmp_path / "x.npz") as arrays:
        content = dict(arrays)
    content["output_0"][5] += 1
    np.savez(tmp_path / "y.npz", **content)
    assert main(["capture", str(folder), "--compare", str(LINEAR), "--from", str(tmp_path / "x.npz")]) == 0
    assert main(["capture", str(folder), "--compare", str(LINEAR), "--from", str(tmp_path / "y.npz")]) == 2


def test_another_program_is_refused(own: tuple[Path, bytes], tmp_path: Path) -> None:
    folder, said = own
    other = tmp_path / "build"
    other.mkdir()
    for name in ("build.json", "memory.json"):
        (other / name).write_text((folder / name).read_text())
    memory = json.loads((other / "memory.json").read_text())
    (other / "memory.json").write_text(json.dumps(memory | {"program_hash": "feedface12345678"}))
    code, words = listened(other, said, tmp_path / "x.npz", "--records", "8", "--board", "host")
    assert code == 3 and "runs another program" in words and "feedface12345678" in words


def test_the_layout_in_the_header_is_the_page_s() -> None:
    header = (root() / "firmware" / "et" / "capture.h").read_text()
    found = re.search(r"kLayout = (\w+);", header)
    assert found and int(found[1], 0) == layout().hash, f"kLayout must be 0x{layout().hash:08X}"
    code = re.search(r"kKind = (\w+);", header)
    assert code and int(code[1], 0) == layout().messages["CAPTURE"].code
