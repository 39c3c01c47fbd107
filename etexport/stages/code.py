"""Which bytes of a firmware's code belong to which kernel and to which steps, read from its machine code: the compiler
inlines kernels, and steps share what it did not."""

from __future__ import annotations

import bisect
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etexport.board import Board
from etexport.device.elf import Place, places
from etexport.device.fault import PROGRAM, step_marks, step_of
from etexport.report.code import GENERATED, Code
from etexport.report.stacks import short_name
from etexport.toolchain.sizes import program_code

_FUNCTION = re.compile(r"([0-9a-f]+) <(.+)>:$")
_LINE = re.compile(r"\s*([0-9a-f]+):\t(.*)$")
_TARGET = re.compile(r"\b([0-9a-f]+) <[^>]+>")
_SHARED = "et"
"""The folder of firmware/ with the arithmetic that kernels inline."""


@dataclass(frozen=True)
class _Line:
    """A line of the disassembly; `target` is the address that it names."""

    address: int
    function: int
    target: int | None


def code_of(folder: Path, board: Board) -> tuple[Code, ...]:
    """What `Part.KERNELS` of the folder's firmware.elf consists of, all of it, in the order of the steps: the code of a
    place is that of the line that the compiler notes for it. () where the
    toolchain is not there to tell."""
    elf, linked = folder / "firmware.elf", folder / "firmware.map"
    tool = shutil.which(f"{board.toolchain.prefix}objdump")
    stretches = program_code(elf, linked) if tool and elf.is_file() and linked.is_file() else []
    if not stretches:
        return ()
    command = [str(tool), "-d", "-z", "--no-show-raw-insn", str(elf)]
    lines, names = _disassembled(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    inside = list(_inside(lines, stretches))
    marks = step_marks(folder / PROGRAM)
    chains = dict(zip((at for at, _, _ in inside), places(elf, board, [at for at, _, _ in inside]), strict=True))
    own = {at: found[1] for at, chain in chains.items() if (found := step_of(chain, marks)) is not None}
    users = _users(lines, names, own)
    bytes_of: dict[tuple[str, str, tuple[int, ...]], int] = {}
    for at, function, size in inside:
        chain = chains[at]
        name = short_name(chain[-1].function) if chain else names.get(function, "")
        steps = own.get(at) or tuple(sorted(users.get(function, ())))
        key = _kernel(chain), name, steps
        bytes_of[key] = bytes_of.get(key, 0) + size
    rest = sum(size for _, size in stretches) - sum(bytes_of.values())
    if rest:
        bytes_of[GENERATED, "tables", ()] = rest
    ordered = sorted(bytes_of.items(), key=lambda item: (not item[0][2], item[0][2], item[0]))
    return tuple(Code(kernel, name, size, steps) for (kernel, name, steps), size in ordered)


def _disassembled(text: str) -> tuple[list[_Line], dict[int, str]]:
    """All lines, and the functions by address."""
    lines: list[_Line] = []
    names: dict[int, str] = {}
    function = 0
    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            function = int(match[1], 16)
            names[function] = match[2]
        elif match := _LINE.match(line):
            target = _TARGET.search(match[2])
            lines.append(_Line(int(match[1], 16), function, int(target[1], 16) if target else None))
    return lines, names


def _inside(lines: Sequence[_Line], stretches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(address, function, bytes) of the lines in the stretches."""
    ordered = sorted(lines, key=lambda line: line.address)
    addresses = [line.address for line in ordered]
    for begin, size in stretches:
        first, last = (bisect.bisect_left(addresses, end) for end in (begin, begin + size))
        for at in range(first, last):
            behind = addresses[at + 1] if at + 1 < last else begin + size
            yield addresses[at], ordered[at].function, behind - addresses[at]


def _users(
    lines: Sequence[_Line], names: Mapping[int, str], own: Mapping[int, tuple[int, ...]]
) -> dict[int, frozenset[int]]:
    """The steps that reach each function by calls; `own` are those of the places that belong to a step."""
    starts = sorted(names)
    callers: dict[int, set[int]] = {}
    users: dict[int, frozenset[int]] = {}
    for line in lines:
        if line.target is None:
            continue
        called = starts[max(0, bisect.bisect_right(starts, line.target) - 1)]
        if called == line.function:
            continue
        if line.address in own:
            users[called] = users.get(called, frozenset()) | frozenset(own[line.address])
        else:
            callers.setdefault(line.function, set()).add(called)
    todo = list(users)
    while todo:
        at = todo.pop()
        for called in callers.get(at, ()):
            more = users[at] - users.get(called, frozenset())
            if more:
                users[called] = users.get(called, frozenset()) | more
                todo.append(called)
    return users


def _kernel(chain: Sequence[Place]) -> str:
    """The folder of the innermost function that is a kernel's: what of `et/` is inlined in one is of that one."""
    for place in chain:
        if place.file == PROGRAM:
            return GENERATED
        if place.folder and place.folder != _SHARED:
            return place.folder
    return _SHARED if chain else GENERATED
