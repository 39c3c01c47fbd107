"""Facts that hold at each instruction, computed over jumps: where it may go, what has been done on every way to it,
what is alive there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from etexport.errors import ProgramError
from etexport.program.model import JUMPS, Instruction, Method, Role, Value

S = TypeVar("S")

MAX_JUMPS = 256
MAX_PASSES = 16


def jump_targets(instructions: Sequence[Instruction]) -> tuple[int | None, ...]:
    """For each instruction the position that it may jump to (the number of instructions: the end), None where it does
    not jump.

    ProgramError where a jump has no legal destination.
    """
    positions = {instruction.handle: position for position, instruction in enumerate(instructions)}
    positions[-1] = len(instructions)
    found: list[int | None] = []
    for instruction in instructions:
        if instruction.op not in JUMPS:
            found.append(None)
            continue
        destination = instruction.args[-1] if instruction.args else None
        if not isinstance(destination, int) or destination not in positions:
            raise ProgramError(f"it jumps to {destination!r}, which is no instruction", where=instruction.where)
        found.append(positions[destination])
    if sum(target is not None for target in found) > MAX_JUMPS:
        raise ProgramError(f"the method has more than {MAX_JUMPS} jumps")
    return tuple(found)


def forward(
    instructions: Sequence[Instruction],
    start: S,
    step: Callable[[int, S], None],
    copy: Callable[[S], S],
    meet: Callable[[S, S], S],
) -> S | None:
    """Run `step(position, state)`, which changes the state, over every instruction that can be reached, until loops are
    stable.

    `meet` joins what two ways to the same instruction bring, and only ever takes away: `step` may report what it finds
    missing at once, since a later pass finds no more. Returns the state at the end, None when the end cannot be
    reached.
    """
    targets = jump_targets(instructions)
    count = len(instructions)
    back: dict[int, S] = {}
    for _ in range(MAX_PASSES):
        arriving: dict[int, S] = dict(back)
        new_back: dict[int, S] = {}
        state: S | None = copy(start)
        for position in range(count + 1):
            if position in arriving:
                state = copy(arriving[position]) if state is None else meet(state, arriving[position])
            if position == count or state is None:
                continue
            instruction, target = instructions[position], targets[position]
            step(position, state)
            if target is None:
                continue
            into = new_back if target <= position else arriving
            into[target] = meet(into[target], state) if target in into else copy(state)
            if instruction.args[0] is False:
                state = None
        if new_back == back:
            return state
        back = new_back
    raise ProgramError("its loops are nested too deeply to follow")


def successors(instructions: Sequence[Instruction]) -> tuple[tuple[int, ...], ...]:
    """For each instruction the positions that may follow it; the number of instructions is the end."""
    targets = jump_targets(instructions)
    found = []
    for position, (instruction, target) in enumerate(zip(instructions, targets, strict=True)):
        falls = () if target is not None and instruction.args[0] is False else (position + 1,)
        found.append(falls if target is None else tuple(dict.fromkeys((*falls, target))))
    return tuple(found)


def block_starts(instructions: Sequence[Instruction]) -> frozenset[int]:
    """Positions where a block begins: the first, what is jumped to, and what stands behind a jump. The end may be
    one."""
    targets = jump_targets(instructions)
    jumps = (position for position, target in enumerate(targets) if target is not None)
    return frozenset({0, *(target for target in targets if target is not None), *(position + 1 for position in jumps)})


def changing(method: Method) -> frozenset[int]:
    """Values that hold other content at other times: states that are written, and what several instructions write."""
    writes = Counter(out for instruction in method.instructions for out in instruction.outs)
    return frozenset(id_ for id_, count in writes.items() if count > 1 or method.values[id_].role is Role.STATE)


def steadiness(method: Method) -> Callable[[int, int, int], bool]:
    """Asks whether a value holds at the second position what it held at the first one, which stands before it on every
    way: no instruction writes it between the two, or in the rest of a loop that the second one lies in and the first
    one does not."""
    writes: dict[int, list[int]] = {}
    for at, instruction in enumerate(method.instructions):
        for out in instruction.outs:
            writes.setdefault(out, []).append(at)
    targets = jump_targets(method.instructions)
    loops = [(target, at) for at, target in enumerate(targets) if target is not None and target <= at]

    def stays(value: int, first: int, second: int) -> bool:
        ends = [end for begin, end in loops if begin <= second <= end and not begin <= first]
        return not any(first < at < max([second, *(end + 1 for end in ends)]) for at in writes.get(value, ()))

    return stays


@dataclass(frozen=True)
class Life:
    """Of the bytes of one value, positions of instructions; the number of instructions is the end. `taken`: they hold
    something, or are written. `before` and `after`: as the instruction begins and ends they hold what is still needed
    on some way from there."""

    taken: frozenset[int] = frozenset()
    before: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()

    def __or__(self, other: Life) -> Life:
        return Life(self.taken | other.taken, self.before | other.before, self.after | other.after)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """What is `taken`, as sorted, disjoint, half-open ranges."""
        found: list[tuple[int, int]] = []
        for position in sorted(self.taken):
            if found and found[-1][1] == position:
                found[-1] = (found[-1][0], position + 1)
            else:
                found.append((position, position + 1))
        return tuple(found)


def lives(method: Method) -> dict[int, Life]:
    """The life of each value that has memory of its own and is used; what lies inside it (`Value.storage`) is a part of
    it.

    Bytes live from where they may have been written to where they may be read. An input is there at the start though
    nobody reads it, a state always.
    """
    instructions = method.instructions
    count = len(instructions)

    def owner(id_: int) -> int:
        storage = method.values[id_].storage
        return id_ if storage is None else storage.base

    def owners(ids: Iterable[int]) -> frozenset[int]:
        return frozenset(base for base in map(owner, ids) if method.values[base].role is not Role.CONSTANT)

    def covers(value: Value) -> bool:
        return value.storage is None or (
            value.storage.offset == 0 and value.spec.nbytes == method.values[value.storage.base].spec.nbytes
        )

    reads = [owners(one.reads) for one in instructions]
    writes = [owners(one.outs) for one in instructions]
    kills = [owners(id_ for id_ in one.outs if covers(method.values[id_])) for one in instructions]
    follow = successors(instructions)
    at_start = owners(method.inputs) | {value.id for value in method.values.values() if value.role is Role.STATE}
    written = _written(writes, follow, at_start)
    needed = _needed(reads, kills, follow, owners(method.outputs))
    before = [needed[at] & written[at] for at in range(count + 1)]
    after = [frozenset().union(*(before[then] for then in follow[at])) for at in range(count)]
    taken = [before[at] | after[at] | reads[at] | writes[at] for at in range(count)] + [before[count]]
    taken[0] |= at_start
    none = frozenset[int]()
    there, begins, ends = _positions(taken), _positions(before), _positions(after)
    found = {id_: Life(positions, begins.get(id_, none), ends.get(id_, none)) for id_, positions in there.items()}
    for value in method.values.values():
        if value.role is Role.STATE:
            found[value.id] = Life(frozenset(range(count + 1)), frozenset(range(count + 1)), frozenset(range(count)))
    return found


def _positions(sets: Sequence[frozenset[int]]) -> dict[int, frozenset[int]]:
    """Where each value is in the set of a position."""
    found: dict[int, list[int]] = {}
    for at, ids in enumerate(sets):
        for id_ in ids:
            found.setdefault(id_, []).append(at)
    return {id_: frozenset(positions) for id_, positions in found.items()}


def _written(
    writes: Sequence[frozenset[int]], follow: Sequence[Sequence[int]], at_start: frozenset[int]
) -> list[frozenset[int]]:
    """What may have been written as each position begins."""
    found = [at_start, *(frozenset[int]() for _ in writes)]
    changed = True
    while changed:
        changed = False
        for at, made in enumerate(writes):
            out = found[at] | made
            for then in follow[at]:
                if not out <= found[then]:
                    found[then] |= out
                    changed = changed or then <= at
    return found


def _needed(
    reads: Sequence[frozenset[int]],
    kills: Sequence[frozenset[int]],
    follow: Sequence[Sequence[int]],
    at_end: frozenset[int],
) -> list[frozenset[int]]:
    """What may be read as it is when each position begins."""
    found = [*(frozenset[int]() for _ in reads), at_end]
    back = {then for at, all_then in enumerate(follow) for then in all_then if then <= at}
    changed = True
    while changed:
        changed = False
        for at in reversed(range(len(reads))):
            behind = frozenset[int]().union(*(found[then] for then in follow[at]))
            now = reads[at] | (behind - kills[at])
            if now != found[at]:
                found[at] = now
                changed = changed or at in back
    return found
