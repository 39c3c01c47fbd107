"""Runs on every board: outputs, exact counts, what is written down, inputs that do not match."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from etexport.board import Count, load_board
from etexport.device import record, run
from etexport.device.counts import measure, run_counts, start_count
from etexport.device.image import image
from etexport.device.instructions import count_instructions
from etexport.device.launch import launch
from etexport.device.link import Result
from etexport.errors import BoardError, BuildError, DeviceLostError, Errors, ModelError, ToolMissingError
from tests.device.building import build_tiny
from tests.device.conftest import BOARDS, COUNTED, IN_QEMU, Firmware
from tests.device.tiny import expected, sample


@pytest.mark.parametrize("name", ["host", *IN_QEMU])
def test_outputs_of_every_run(firmware: Firmware, tmp_path: Path, name: str) -> None:
    board, elf = firmware(name)
    seen: list[tuple[int, int]] = []
    done = run(
        elf,
        board,
        [sample(index) for index in range(5)],
        log=tmp_path / "wire.log",
        progress=lambda *at: seen.append(at),
    )
    for index in range(5):
        for got, wanted in zip(done.outputs[index], expected(sample(index), index + 1), strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)
    assert seen == [(count, 5) for count in range(1, 6)]
    assert done.exit_status == 0
    assert done.asked_again == 0 or name != "host"
    assert done.hello.image_crc == image(elf).crc
    if name != "host":
        assert 100 < done.stack_used < 1024 < done.hello.stack_bytes == board.stack
    if name in COUNTED:
        assert 300 < done.init_count < 3000
    lines = (tmp_path / "wire.log").read_text().splitlines()
    kinds = {line.split()[1] for line in lines}
    assert {"IDENTIFY", "HELLO", "INPUT", "WRITE", "ACCEPTED", "RUN", "BUSY", "DATA", "DONE", "EXIT"} <= kinds
    assert "?" not in kinds
    written = record(done, board)
    assert written.inputs[1].dim_order == (0, 2, 3, 1) and written.inputs[1].permuted_by_host
    assert str(tmp_path) not in str(written) and str(elf.parent) not in str(written)


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_exact_and_the_same_every_time(firmware: Firmware, name: str) -> None:
    """The same input gives the same count, in this start and the next, whenever the host asks."""
    board, elf = firmware(name)
    counts = {count for _ in range(2) for count in run(elf, board, [sample(3)] * 12).counters}
    assert len(counts) == 1, counts


@pytest.mark.parametrize("name", COUNTED)
def test_a_count_is_the_number_of_instructions(firmware: Firmware, name: str) -> None:
    """A loop of two instructions more a round costs just that: a delay loop in assembler is timed for several
    lengths."""
    board, elf = firmware(name, defines=("-DTINY_ROUNDS",))
    lengths = (1000, 1001, 1002, 1003, 1004, 5000) * 4
    counts = run(elf, board, [with_rounds(length) for length in lengths]).counters
    beside = {count - 2 * length for count, length in zip(counts, lengths, strict=True)}
    assert len(beside) == 1, beside


def with_rounds(rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """A sample whose image says, in its first bytes on the board, how long the loop of -DTINY_ROUNDS is."""
    x, pixels = sample(3)
    stored = pixels.transpose(0, 2, 3, 1).copy()
    stored.ravel()[:4] = np.frombuffer(rounds.to_bytes(4, "little"), np.int8)
    return x, stored.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", [name for name in BOARDS if name in COUNTED])
def test_instructions_by_function_add_up_to_the_count(firmware: Firmware, name: str) -> None:
    """Of the last run, whose own counter shares nothing with the plugin but the core; the loop is where it is."""
    board, elf = firmware(name, defines=("-DTINY_ROUNDS",))
    ran, done = count_instructions(elf, board, [with_rounds(10), with_rounds(1000)])
    assert sum(one.count for one in ran) == done.counters[1]
    inside = {
        name: sum(one.count for one in ran if name in one.functions)
        for name in ("tiny::run()", "tiny::misbehave(float)")
    }
    assert inside["tiny::run()"] > 2000 + 600 and 0 < inside["tiny::misbehave(float)"] < 200, inside


def test_without_plugins_of_qemu_the_words_are_plain(
    firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, elf = firmware("qemu_mps2_an386")
    (tmp_path / "qemu-system-arm").write_text(
        "#!/bin/sh\necho 'qemu-system-arm: -plugin x.so: plugin interface not enabled in this build'; exit 1\n"
    )
    (tmp_path / "qemu-system-arm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        ToolMissingError, match=r"takes no plugin: qemu-system-arm: -plugin x.so: plugin interface not enabled"
    ):
        count_instructions(elf, board, [sample(1)])
    with pytest.raises(BoardError, match="only QEMU"):
        count_instructions(elf, load_board("host"), [sample(1)])


@pytest.mark.parametrize("name", BOARDS)
def test_probes_count_each_step(firmware: Firmware, name: str) -> None:
    board, elf = firmware(name, probes=True)
    done = run(elf, board, [sample(index) for index in range(2)], probes=True)
    assert [len(steps) for steps in done.probes] == [3, 3]
    if name != "host":
        for steps, whole in zip(done.probes, done.counters, strict=True):
            assert 0 < whole - sum(steps) < 200, (steps, whole)
            assert steps[2] > 3000 and steps[0] < 1000


@pytest.mark.parametrize("name", [name for name in BOARDS if name != "host"])
def test_traces_cost_no_counts(firmware: Firmware, name: str) -> None:
    """A build with both counts each step as if nothing were streamed, but for the few instructions that hand a result
    over."""
    counts = []
    for trace in (False, True):
        board, elf = firmware(name, probes=True, trace=trace)
        counts.append(run(elf, board, [sample(3)], probes=True).probes[0])
    assert all(abs(beside - alone) <= 4 for alone, beside in zip(*counts, strict=True)), counts


@pytest.mark.parametrize("name", ["host", "qemu_mps2_an385"])
def test_traces_bring_every_result(firmware: Firmware, name: str) -> None:
    board, elf = firmware(name, trace=True)
    done = run(elf, board, [sample(index) for index in range(2)], trace=True)
    for index in range(2):
        sums, table = expected(sample(index), index + 1)
        assert done.trace[index] == {(0, 0): sums.tobytes(), (2, 0): table.tobytes()}


def test_inputs_by_name(firmware: Firmware) -> None:
    board, elf = firmware("host")
    x, pixels = sample(2)
    done = run(elf, board, [{"image": pixels, "x": x}])
    np.testing.assert_array_equal(done.outputs[0][1], expected((x, pixels), 1)[1])
    with pytest.raises(ModelError, match="inputs x, y where x, image belong"):
        run(elf, board, [{"x": x, "y": pixels}])


def test_every_input_that_does_not_match_is_named(firmware: Firmware) -> None:
    board, elf = firmware("host")
    x, pixels = sample(0)
    with pytest.raises(Errors) as caught:
        run(elf, board, [(x.astype(np.float64), pixels.transpose(0, 2, 3, 1))])
    assert "input x is float64[2, 3] here and float32[2, 3] on the board" in str(caught.value)
    assert "input image is int8[1, 4, 4, 3] here and int8[1, 3, 4, 4] on the board" in str(caught.value)
    with pytest.raises(ModelError, match="1 inputs where 2 belong"):
        run(elf, board, [(x,)])


def test_a_missing_simulator_names_its_package(firmware: Firmware) -> None:
    board, elf = firmware("host")
    simulator = dataclasses.replace(load_board("qemu_mps2_an386").simulator, program="qemu-system-none")  # type: ignore[type-var]
    with pytest.raises(ToolMissingError, match="qemu-system-none is not installed"):
        run(elf, dataclasses.replace(board, simulator=simulator), [])


def test_probes_that_the_firmware_lacks(firmware: Firmware) -> None:
    board, elf = firmware("host")
    with pytest.raises(DeviceLostError, match="built without probes"):
        run(elf, board, [], probes=True)


def test_what_is_no_elf(tmp_path: Path) -> None:
    (tmp_path / "x.elf").write_bytes(b"no")
    with pytest.raises(BuildError, match="is no ELF"):
        image(tmp_path / "x.elf")


def test_a_simulator_that_is_told_its_port(firmware: Firmware) -> None:
    """As Renode is: the port is chosen here, and may not be open at once."""
    board, elf = firmware("qemu_mps2_an386")
    assert board.simulator is not None
    arguments = tuple(part.replace(":0,server=on", ":{port},server=on") for part in board.simulator.arguments)
    told = dataclasses.replace(board, simulator=dataclasses.replace(board.simulator, arguments=arguments))
    done = run(elf, told, [sample(0)])
    np.testing.assert_array_equal(done.outputs[0][1], expected(sample(0), 1)[1])
    assert any(":0,server" not in part and "tcp:127.0.0.1:" in part for part in done.command)


def test_systick_counts_the_instructions_of_the_board_s_timer(firmware: Firmware, tmp_path: Path) -> None:
    board, elf = firmware("qemu_mps2_an386")
    other = dataclasses.replace(board, counter=dataclasses.replace(board.counter, driver="systick", address=0))
    done = run(build_tiny(other, tmp_path), other, [sample(3)] * 3)
    timed = run(elf, board, [sample(3)]).counters[0]
    assert all(abs(count - timed) <= 1 for count in done.counters)


def test_a_counter_that_stands_still_is_an_error(firmware: Firmware, tmp_path: Path) -> None:
    """QEMU's cycle counter reads 0 for ever."""
    board, _ = firmware("qemu_mps2_an386")
    other = dataclasses.replace(board, counter=dataclasses.replace(board.counter, driver="dwt", address=0))
    with pytest.raises(
        DeviceLostError, match=r"the counter stands still: from reset to ready 0 .*\n.*is dwt the counter of this board"
    ):
        run(build_tiny(other, tmp_path), other, [sample(3)] * 3)


def test_a_counter_that_is_known_to_stand_still_counts_nothing(firmware: Firmware, tmp_path: Path) -> None:
    """The board file says so of its simulator: no counts, which is not the same as counts of 0."""
    board, _ = firmware("qemu_mps2_an386")
    assert board.simulator is not None
    simulator = dataclasses.replace(board.simulator, count=Count("nothing (qemu's dwt stands still)", still=True))
    other = dataclasses.replace(
        board, counter=dataclasses.replace(board.counter, driver="dwt", address=0), simulator=simulator
    )
    done = run(build_tiny(other, tmp_path), other, [sample(3)] * 3)
    assert (done.counters, done.init_count, done.unit) == ((), None, "nothing (qemu's dwt stands still)")


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("qemu_virt_rv32", "instructions (minstret)"),
        ("qemu_mps2_an386", "ticks (cmsdk_timer)"),
        ("host", "nanoseconds (host clock)"),
    ],
)
def test_counts_of_a_port_are_in_the_counter_s_own_unit(firmware: Firmware, name: str, unit: str) -> None:
    """Behind a port may be anything, so nobody says that QEMU counted; ticks are told as they are."""
    board, elf = firmware(name)
    launched = run(elf, board, [sample(0)])
    with launch(board, elf) as running:
        attached = run(elf, board, [sample(0)], url=running.url)
    assert launched.unit == board.counter.unit and attached.unit == unit
    if name != "host":
        ratio = board.counter.numerator / board.counter.denominator
        assert attached.counters[0] == pytest.approx(launched.counters[0] / ratio, abs=2)


def test_a_simulator_never_outlives_its_block(firmware: Firmware) -> None:
    board, elf = firmware("qemu_virt_rv32")
    with pytest.raises(RuntimeError), launch(board, elf) as running:
        raise RuntimeError
    assert running.process.poll() is not None


@pytest.mark.parametrize(("name", "least"), [("host", 35), ("qemu_virt_rv32", 71)])
def test_a_program_may_take_less_than_nothing_where_the_clock_is_uneven(name: str, least: int) -> None:
    """70 ticks for nothing are the least of all runs. On the host, down to half of that is one tick; of a simulator it
    cannot be, nor that a program takes as much as nothing."""
    by = measure(load_board(name), launched=True)

    def counted(*ticks: int) -> tuple[int, ...]:
        return run_counts(by, [Result((), each, 70 + 30 * at) for at, each in enumerate(ticks)], "url")

    assert counted(170, 71) == (100, 1)
    assert counted(170, least) == (100, 1)
    with pytest.raises(DeviceLostError, match=rf"cannot be: {least - 1} ticks for sample 2, and 70 for nothing"):
        counted(170, least - 1)


@pytest.mark.parametrize(("ticks", "said"), [(0, "the counter stands still"), (2**24 + 2526, "a count that cannot be")])
def test_a_start_that_cannot_be(ticks: int, said: str) -> None:
    board = load_board("qemu_virt_rv32")
    with pytest.raises(DeviceLostError, match=f"{said}: from reset to ready"):
        start_count(measure(board, launched=True), ticks, "url")
    assert start_count(measure(load_board("host"), launched=True), ticks, "url") == ticks
