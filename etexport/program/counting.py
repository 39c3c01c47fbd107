"""Loops of a known number of rounds in a `.pte` file: ExecuTorch counts in an Int that prim operators compute with.

    sym_size(x, 0, n)                                what stands for a known size
    move 0 -> i                                      ours alone; theirs counts on the 0 in the file, and subtracts n
                                                     behind the loop
    head: select_copy(x, 0, i) ... et_copy_index(y, row, i)
    add(i, 1, i); eq(i, n, done); jump_false done -> head; sub(i, n, i)

In a Program these are BEGIN, ROW, SET_ROW and NEXT (`model.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etexport.program.operators import SIZE, is_number

ADD = "executorch_prim::add.Scalar"
SUB = "executorch_prim::sub.Scalar"
EQUAL = "executorch_prim::eq.Scalar"
COPY_INDEX = "executorch_prim::et_copy_index.tensor"

Call = tuple[str, tuple[int, ...]]
"""What an instruction of the file does: an operator and its arguments, `JUMP` with condition and destination, or `MOVE`
with source and target, all as numbers of values."""

JUMP, MOVE = "jump", "move"


@dataclass(frozen=True)
class Counted:
    """A loop: instructions of the file, its first one in `head`, the jump back in `jump`, and the value that counts.
    `end` is the number that it counts to where that is computed, and `rounds` then what the file has for it."""

    count: int
    rounds: int
    head: int
    jump: int
    end: int | None = None


@dataclass(frozen=True)
class Counting:
    """`sizes`: Ints that stand for sizes, which are known. `parts`: instructions that only count, and are none in a
    Program. `moves`: those where a count begins, in files of ours."""

    sizes: Mapping[int, int]
    loops: tuple[Counted, ...]
    parts: frozenset[int]
    moves: Mapping[int, Counted]


def find(calls: Sequence[Call], ints: Mapping[int, int], sizes: Mapping[int, tuple[int, ...]]) -> Counting:
    """`ints`: the Ints of the file; `sizes`: the shapes of its tensors, but of those whose sizes vary. What is not of
    the form above is left alone."""
    known: dict[int, int] = {}
    computed = {args[-1] for op, args in calls if is_number(op) and args}
    parts: set[int] = set()
    for at, (op, args) in enumerate(calls):
        if op == SIZE and len(args) >= 3 and args[0] in sizes and 0 <= ints.get(args[1], -1) < len(sizes[args[0]]):
            known[args[-1]] = sizes[args[0]][ints[args[1]]]
            parts.add(at)
    loops: list[Counted] = []
    moves: dict[int, Counted] = {}
    for at in range(2, len(calls)):
        (step, added), (compare, compared), (jump, to) = calls[at - 2 : at + 1]
        if jump != JUMP or compare != EQUAL or step != ADD or len(added) != 3 or len(compared) != 3 or to[1] >= at:
            continue
        count, end = compared[:2]
        one, rounds = ints.get(added[1]), known.get(end, ints.get(end, 0))
        varies = end in computed - known.keys()
        if added != (count, added[1], count) or one != 1 or compared[2] != to[0] or ints.get(count) != 0:
            continue
        if rounds < 1 and not varies:
            continue
        loop = Counted(count, rounds, to[1], at, end if varies else None)
        behind = calls[at + 1] if at + 1 < len(calls) else ("", ())
        before = calls[loop.head - 1] if loop.head else ("", ())
        if before[0] == MOVE and before[1][1] == count and ints.get(before[1][0]) == 0:
            moves[loop.head - 1] = loop
        elif behind == (SUB, (count, end, count)):
            parts.add(at + 1)
        else:
            continue
        if any(loop.count == other.count for other in loops):
            continue
        parts |= {at - 2, at - 1}
        loops.append(loop)
    return Counting(known, tuple(loops), frozenset(parts), moves)
