"""Counts the instructions of one run of the program in QEMU, by function and by the calls that led there: through a
plugin that QEMU loads (instructions.c), into any image as it is. Nothing is built for it, and nothing in the image is
changed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etexport.board import Board, Simulator
from etexport.device.elf import Place, functions, places, symbols
from etexport.device.fault import PROGRAM, step_marks, step_of
from etexport.device.run import Run, Sample, run
from etexport.errors import BoardError, BuildError, DeviceLostError, ToolMissingError

RUN_SYMBOL = "_ZN2et7program3runEv"
"""`et::program::run` of firmware/et/program.h."""
_SOURCE = Path(__file__).with_suffix(".c")
_REFUSED = re.compile(r".*\b(?:-plugin|plugins?\b|qemu_plugin).*", re.IGNORECASE)
"""A line of a QEMU that takes no plugins, or not this one."""


@dataclass(frozen=True)
class Ran:
    """Instructions of one place in the code, on one way there."""

    count: int
    step: int | None
    """Of the program, as in `memory.json`; None between steps."""
    functions: tuple[str, ...]
    """Outermost first, those that were inlined among them: what the step called, else from the caller of the program
    on. A file stands for an inlined function that addr2line knows no name of: templates over types that are the model's
    own."""


def count_instructions(
    elf: Path, board: Board, samples: Sequence[Sample], *, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[Ran, ...], Run]:
    """Run all samples, and count the last. The counts add up to what the firmware's own counter gives: `Run.counters`.

    Raises what `run` raises; BoardError for a board that QEMU does not simulate, ToolMissingError where QEMU takes no
    plugins, or this machine has no C compiler to make one."""
    if board.simulator is None or board.simulator.kind != "qemu":
        raise BoardError("only QEMU counts instructions by function", where=f"board {board.name}")
    table = symbols(elf)
    entry = table.addresses.get(RUN_SYMBOL)
    if entry is None:
        raise BuildError("has no et::program::run: it is no firmware of ours, or was stripped", where=str(elf))
    with tempfile.TemporaryDirectory() as folder:
        plugin, names, out = (Path(folder, name) for name in ("instructions.so", "functions", "counts"))
        _build(plugin, board.simulator)
        names.write_text("".join(f"{_even(address, board):x}\n" for address in functions(elf)))
        told = f"{plugin},entry={_even(entry, board):#x},run={len(samples)},functions={names},out={out}"
        watched = replace(board.simulator, arguments=(*board.simulator.arguments, "-plugin", told))
        try:
            done = run(elf, replace(board, simulator=watched), samples, progress=progress)
        except DeviceLostError as lost:
            if said := _REFUSED.search(lost.what):
                hint = "a QEMU built with --enable-plugins: Debian's and Ubuntu's are"
                raise ToolMissingError(
                    f"takes no plugin: {said[0].strip()}", where=board.simulator.program, hint=hint
                ) from None
            raise
        lines = out.read_text().splitlines() if out.is_file() else []
    if not lines or lines[-1] != "end":
        raise BuildError("the plugin saw no run of the program to its end", where=board.simulator.program)
    return _placed([_parsed(line) for line in lines[:-1]], elf, board), done


def _build(plugin: Path, simulator: Simulator) -> None:
    compiler = "cc"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        f"-DINTERFACE={_interface(simulator.program)}",
        str(_SOURCE),
        "-o",
        str(plugin),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        hint = "sudo apt-get install gcc"
        raise ToolMissingError(
            f"{compiler} is not installed, and makes the plugin", where=simulator.program, hint=hint
        ) from None
    if done.returncode != 0:
        raise BuildError(f"is not compiled by {compiler}:\n{done.stderr}", where=_SOURCE.name)


def _interface(program: str) -> int:
    """The version of the plugin interface: what is used of it is the same in all, and QEMU takes none that is older
    than it likes."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return 1  # whoever launches it says what to install
    version = re.search(r"version (\d+)", said)
    return 2 if version is not None and int(version[1]) >= 9 else 1


def _even(address: int, board: Board) -> int:
    return address & ~1 if board.arch == "cortex_m" else address


def _parsed(line: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Count, calls (addresses behind them, outermost first) and instructions of a line."""
    way, _, block = line.partition(" :")
    count, *calls = way.split()
    return int(count), tuple(int(call, 16) for call in calls), tuple(int(address, 16) for address in block.split())


def _placed(counts: Sequence[tuple[int, tuple[int, ...], tuple[int, ...]]], elf: Path, board: Board) -> tuple[Ran, ...]:
    """Addresses as functions, equal ones together."""
    wanted = sorted({address for _, calls, block in counts for address in (*(call - 2 for call in calls), *block)})
    chains = dict(zip(wanted, places(elf, board, wanted), strict=True))
    marks = step_marks(elf.parent / PROGRAM)
    found: dict[tuple[int | None, tuple[str, ...]], int] = {}
    for count, calls, block in counts:
        for address in block:
            chain = [chains[address], *(chains[call - 2] for call in reversed(calls))]
            called = step_of([place for inlined in chain for place in inlined], marks)
            names = [name for inlined in chain for name in _names(inlined)]
            step = called[1][0] if called is not None and len(called[1]) == 1 else None
            key = step, tuple(reversed(names[: called[0] if called is not None and step is not None else None]))
            found[key] = found.get(key, 0) + count
    return tuple(Ran(count, step, functions) for (step, functions), count in found.items())


def _names(inlined: Sequence[Place]) -> list[str]:
    """Of functions inlined into each other, innermost first: for one without a name addr2line says that of the
    outermost."""
    last = len(inlined) - 1
    return [
        place.file if at < last and place.function == inlined[last].function else place.function
        for at, place in enumerate(inlined)
    ]
