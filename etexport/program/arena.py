"""Offsets for the stock runtime: a `.pte` file says where each tensor lies, and so must ours.

This plan is only for programs that run in ExecuTorch. Firmware is planned by `etexport.plan`, from what the target side
has made of the program, and never from these offsets.
"""

from __future__ import annotations

from collections.abc import Mapping

from etexport.program.flow import jump_targets
from etexport.program.model import MOVE, Method, Program, Role

ALIGNMENT = 16


def shared_offsets(program: Program) -> tuple[Mapping[int, int], int]:
    """(byte offset of each state that several methods have, bytes of the memory in which these lie one after the
    other)."""
    placed: dict[int, int] = {}
    total = 0
    for id_ in sorted(frozenset().union(*(method.shared for method in program.methods))):
        placed[id_] = total
        total += _rounded(max(program.states[id_].spec.nbytes, 1))
    return placed, total


def offsets(method: Method) -> tuple[Mapping[int, int], int]:
    """(byte offset of each input, output, activation and state of its own, bytes of the arena).

    Largest first, each at the lowest offset where it overlaps no value that is alive at the same time.
    """
    live = {id_: span for id_, span in live_ranges(method).items() if id_ not in method.shared}
    order = sorted(live, key=lambda id_: (-method.values[id_].spec.nbytes, live[id_], id_))
    placed: dict[int, int] = {}
    total = 0
    for id_ in order:
        size = _rounded(method.values[id_].spec.nbytes)
        first, last = live[id_]
        busy = sorted(
            (placed[other], placed[other] + _rounded(method.values[other].spec.nbytes))
            for other in placed
            if live[other][0] <= last and first <= live[other][1]
        )
        offset = 0
        for start, end in busy:
            if start - offset >= size:
                break
            offset = max(offset, end)
        placed[id_] = offset
        total = max(total, offset + size)
    return placed, total


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def live_ranges(method: Method) -> Mapping[int, tuple[int, int]]:
    """First and last instruction that need the bytes of each value, the start being -1 and the end the number of
    instructions.

    Over-estimated where there are jumps back (what a loop touches lives through the whole loop) and moves (both names
    live together, since a move copies a pointer).
    """
    count = len(method.instructions)
    live: dict[int, tuple[int, int]] = {}

    def touch(id_: int, position: int) -> None:
        if method.values[id_].role is Role.CONSTANT:
            return
        if method.values[id_].role is Role.STATE:
            live[id_] = (-1, count)
            return
        first, last = live.get(id_, (position, position))
        live[id_] = (min(first, position), max(last, position))

    for id_ in method.inputs:
        touch(id_, -1)
    for position, instruction in enumerate(method.instructions):
        for id_ in (*instruction.reads, *instruction.outs):
            touch(id_, position)
    for id_ in method.outputs:
        touch(id_, count)
    loops = [
        (target, position)
        for position, target in enumerate(jump_targets(method.instructions))
        if target is not None and target <= position
    ]
    pairs = [
        (read, instruction.outs[0])
        for instruction in method.instructions
        if instruction.op == MOVE
        for read in instruction.reads
        if read in live
    ]
    before: dict[int, tuple[int, int]] = {}
    while before != live:
        before = dict(live)
        for start, end in loops:
            for id_, (first, last) in live.items():
                if first <= end and start <= last:
                    live[id_] = (min(first, start), max(last, end))
        for one, other in pairs:
            both = (min(live[one][0], live[other][0]), max(live[one][1], live[other][1]))
            live[one] = live[other] = both
    return live
