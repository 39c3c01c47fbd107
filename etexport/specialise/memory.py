"""From a specialised program to the planner's problem: one buffer for each value with memory of its own, and for each
scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import accumulate
from math import lcm

from etexport.board import Board
from etexport.errors import EtError, PlanError, raise_all
from etexport.kernel.call import Call, RowWrite, Scratch, Write
from etexport.kernel.node import needed_values
from etexport.plan.problem import Buffer, Overlap, Problem, Region, Solution
from etexport.program.flow import Life, block_starts, lives
from etexport.program.model import Method, Role
from etexport.specialise.address import ends_where_begins
from etexport.specialise.model import Placed, Specialised, scratch_name
from etexport.specialise.schedule import CallStep, Schedule

ALIGN = 16


STATIC_BYTES = 2048
"""What .data and .bss of the bundled firmware may take of the first of several RAMs (1,100 bytes on the boards here);
linking says for certain."""


def regions(board: Board) -> tuple[Region, ...]:
    """The RAMs of a board. The only one is called "ram" and takes what it is given: whether that fits is `check_fit`'s
    to say."""
    memories = [memory for memory in board.memory if memory.kind == "ram"]
    if len(memories) < 2:
        return (Region("ram"),)
    taken = board.stack + STATIC_BYTES
    return tuple(
        Region(memory.name, max(memory.size - (0 if at else taken), 0), memory.cost)
        for at, memory in enumerate(memories)
    )


def problem(specialised: Specialised, regions: tuple[Region, ...] = (Region("ram"),)) -> Problem:
    """Buffers of the arena. Step n (the number of steps) stands for the end, when outputs are read.

    An input is there from the start until it is last read, an output from when it is made until the end, a state
    always; what is made on one of two ways takes nothing on the other (`etexport.program.flow`).
    """
    method = specialised.method
    known = lives(method)
    unwritten = _unwritten(specialised)
    aligns = _aligns(specialised)
    touched = _touched(specialised)
    buffers = []
    for value in method.values.values():
        if value.storage is not None or value.role is Role.CONSTANT or value.spec.nbytes == 0:
            continue
        if value.id not in known or value.id in unwritten:
            continue
        live = known[value.id].ranges
        buffers.append(
            Buffer(value.name, value.spec.nbytes, live, aligns.get(value.id, ALIGN), touched=touched.get(value.id, 0))
        )
    for at, step in specialised.calls.items():
        scratch = sum(
            -(-operand.elements * operand.dtype.itemsize // ALIGN) * ALIGN
            for operand in step.call.operands
            if isinstance(operand, Scratch)
        )
        if scratch:
            buffers.append(Buffer(scratch_name(step.instruction), scratch, ((at, at + 1),), ALIGN, touched=2 * scratch))
    return Problem(tuple(buffers), regions, tuple(_overlaps(specialised, known)))


def place(
    programs: Sequence[Sequence[Specialised]],
    regions: tuple[Region, ...],
    planner: Callable[[Problem], Solution],
    rules: Sequence[Mapping[str, str]] = (),
) -> tuple[tuple[Placed, ...], ...]:
    """The methods of programs on one arena, planned together: they never run at the same time, and the states of all
    are there in all. A state has one place for the methods of its program. `rules` say of each program which buffers
    lie in which region: `pinned`."""
    methods = [(number, one) for number, program in enumerate(programs) for one in program]
    problems = [problem(one, regions) for _, one in methods]
    for number, said in enumerate(rules):
        places = [at for at, (of, _) in enumerate(methods) if of == number]
        without = [(problems[at], _makers(methods[at][1])) for at in places]
        for at, made in zip(places, pinned(without, said), strict=True):
            problems[at] = made
    if len(problems) == 1:
        return ((Placed(methods[0][1], problems[0], planner(problems[0])),),)
    names = [_told(number, one, own) for (number, one), own in zip(methods, problems, strict=True)]
    states = {
        told[name] for (_, one), told in zip(methods, names, strict=True) for name in _states(one.method) & told.keys()
    }
    # the last is the end, when outputs are read
    begins = list(accumulate((len(one.schedule.steps) + 1 for _, one in methods), initial=0))
    buffers: dict[str, Buffer] = {}
    for own, told, begin in zip(problems, names, begins, strict=False):
        for buffer in own.buffers:
            name = told[buffer.name]
            live = tuple((begin + first, begin + last) for first, last in buffer.live)
            align, touched, region = buffer.align, buffer.touched, buffer.region
            if name in states:
                before = buffers.get(name, replace(buffer, touched=0))
                live, align, touched = ((0, begins[-1]),), lcm(align, before.align), touched + before.touched
                region = region or before.region
            buffers[name] = replace(buffer, name=name, live=live, align=align, region=region, touched=touched)
    overlaps = (
        replace(one, low=told[one.low], high=told[one.high])
        for own, told in zip(problems, names, strict=True)
        for one in own.overlaps
        if not {told[one.low], told[one.high]} & states
    )
    solution = planner(Problem(tuple(buffers.values()), regions, tuple(overlaps)))
    placed = iter(
        (one, own, replace(solution, places={name: solution.places[joint] for name, joint in told.items()}))
        for (_, one), own, told in zip(methods, problems, names, strict=True)
    )
    found = []
    for program in programs:
        firsts = accumulate((len(one.schedule.steps) for one in program), initial=0)
        found.append(tuple(Placed(*next(placed), first) for first, _ in zip(firsts, program, strict=False)))
    return tuple(found)


def pinned(made: Sequence[tuple[Problem, Mapping[str, set[str]]]], rules: Mapping[str, str]) -> list[Problem]:
    """The problems of a program's methods with the buffers that have these names, or that steps of these names make, in
    these regions; the first rule that fits a buffer counts. PlanError for a region that the board lacks, and a name
    that nothing has."""
    called = [{one.name: {one.name, *makers.get(one.name, ())} for one in problem.buffers} for problem, makers in made]
    regions = [region.name for problem, _ in made for region in problem.regions]
    known = sorted(set().union(*(names for of in called for names in of.values())))
    errors: list[EtError] = []
    for name, region in rules.items():
        if region not in regions:
            hint = f"it has {', '.join(dict.fromkeys(regions))}"
            errors.append(PlanError(f"memory_rules: the board has no RAM called {region}", hint=hint))
        if not any(fnmatchcase(one, name) for one in known):
            errors.append(
                PlanError(f"memory_rules: nothing in RAM is called {name}", hint=f"there are {', '.join(known)}")
            )
    raise_all(errors)

    def region_of(names: set[str]) -> str | None:
        fits = (region for name, region in rules.items() if any(fnmatchcase(one, name) for one in names))
        return next(fits, None)

    return [
        replace(problem, buffers=tuple(replace(one, region=region_of(of[one.name])) for one in problem.buffers))
        for (problem, _), of in zip(made, called, strict=True)
    ]


def _makers(specialised: Specialised) -> dict[str, set[str]]:
    """The steps that make what lies in each buffer, by name: of a layer in int8 the layer."""
    values = specialised.method.values
    found: dict[str, set[str]] = {}
    for step in specialised.calls.values():
        for out in step.instruction.outs:
            value = values[out]
            while value.storage is not None:
                value = values[value.storage.base]
            found.setdefault(value.name, set()).add(step.instruction.name)
    return found


def _states(method: Method) -> set[str]:
    return {value.name for value in method.values.values() if value.role is Role.STATE}


def _told(program: int, specialised: Specialised, own: Problem) -> dict[str, str]:
    """The names of a method's buffers among those of all: a state is the program's, all else the method's."""
    states = _states(specialised.method)
    return {
        one.name: f"{program}.{one.name}" if one.name in states else f"{program}.{specialised.method.name}/{one.name}"
        for one in own.buffers
    }


def entered(specialised: Specialised) -> Mapping[int, frozenset[str]]:
    """For each step at which a block begins: the buffers that hold something as it begins, those of the inputs and
    states at the first."""
    method, schedule = specialised.method, specialised.schedule
    known = lives(method)
    starts = {at for at in block_starts(method.instructions) if at < len(schedule.steps)} | {0}
    found = {at: {method.values[id].name for id, life in known.items() if at in life.before} for at in sorted(starts)}
    owners = (value for value in method.values.values() if value.storage is None)
    found[0] |= {value.name for value in owners if value.id in method.inputs or value.role is Role.STATE}
    return {at: frozenset(names) for at, names in found.items()}


def _touched(specialised: Specialised) -> dict[int, int]:
    """For each base value: bytes of it that the steps read and write if each runs once, each operand once a step."""
    method = specialised.method
    found: dict[int, int] = {}
    for step in specialised.schedule.steps:
        for id in (*step.instruction.reads, *step.instruction.outs):
            owner = method.values[id].base
            found[owner] = found.get(owner, 0) + method.values[id].spec.nbytes
    return found


def _aligns(specialised: Specialised) -> dict[int, int]:
    """For each base value of which a kernel wants more than `ALIGN`: what its offset is a multiple of."""
    method = specialised.method
    aligns: dict[int, int] = {}
    for step in specialised.calls.values():
        for id, multiple in step.call.multiples.items():
            owner = method.values[id].base
            aligns[owner] = lcm(aligns.get(owner, ALIGN), multiple)
    return aligns


def _unwritten(specialised: Specialised) -> set[int]:
    """Further results that nobody reads and that the chosen kernel leaves out: the indices of a maximum. They need no
    memory."""
    method = specialised.method
    written = {
        operand.value
        for step in specialised.calls.values()
        for operand in step.call.operands
        if isinstance(operand, (Write, RowWrite))
    }
    further = {out for step in specialised.calls.values() for out in step.instruction.outs[1:]}
    return further - needed_values(method) - written


def _overlaps(specialised: Specialised, known: Mapping[int, Life]) -> Iterator[Overlap]:
    """Where a kernel may write over the operand that it reads: the operand dies at the step that makes the result, and
    at no other step are both there."""
    method = specialised.method
    for at, step in specialised.calls.items():
        for operand_id in {*step.call.overlaps, *step.call.overlaps_upward}:
            operand, out = method.values[operand_id], method.values[step.instruction.outs[0]]
            low, high = out.base, operand.base
            if low == high or Role.CONSTANT in (method.values[low].role, method.values[high].role):
                continue
            dying, born = known[high], known[low]
            if not ends_where_begins(dying, born, at) or method.values[low].role is Role.INPUT:
                continue
            # the distance holds between the tensors; the planner places what they lie in
            inside = (out.storage.offset if out.storage else 0) - (operand.storage.offset if operand.storage else 0)
            below, above = method.values[low].name, method.values[high].name
            if operand_id in step.call.overlaps:
                yield Overlap(below, above, step.call.overlaps[operand_id] + inside)
            if operand_id in step.call.overlaps_upward:
                yield Overlap(above, below, step.call.overlaps_upward[operand_id] - inside)


def directed(placed: Placed) -> Placed:
    """With every windowed call swept in the direction that its place wants: from the last row to the first where its
    output lies so over its input that the other way would overwrite rows before they are read."""
    steps = (
        replace(step, call=_directed(placed, step.call)) if isinstance(step, CallStep) else step
        for step in placed.specialised.schedule.steps
    )
    return replace(placed, specialised=replace(placed.specialised, schedule=Schedule(tuple(steps))))


def _directed(placed: Placed, call: Call) -> Call:
    if call.window is None or call.window.input not in call.overlaps_upward:
        return call
    operand, out = (placed.specialised.method.values[id] for id in (call.window.input, call.window.output))
    there, here = placed.place(operand), placed.place(out)
    above = there.offset - here.offset
    apart = there.region != here.region or above >= out.spec.nbytes or -above >= operand.spec.nbytes
    missing = call.overlaps[operand.id] - above
    upward = not apart and missing > max(0, call.overlaps_upward[operand.id] + above)
    return replace(call, window=replace(call.window, upward=upward))


def check_fit(methods: Sequence[Placed], board: Board, static_bytes: int = 0) -> None:
    """PlanError in the model's terms where arena, stack and `static_bytes` (.data and .bss) do not fit the board's
    RAM."""
    largest = max(methods, key=lambda placed: sum(buffer.size for buffer in peak(placed.problem)[1]))
    specialised, the_problem, solution = largest.specialised, largest.problem, largest.solution
    memories = [memory for memory in board.memory if memory.kind == "ram"]
    arena = solution.size[the_problem.regions[0].name]
    needed = arena + board.stack + static_bytes
    if not memories or needed <= memories[0].size:  # the planner has kept to the capacity of the others
        return
    ram = memories[0].size
    step, live = peak(the_problem)
    method = specialised.method
    lines = {}
    steps = specialised.schedule.steps
    for one in steps:
        for out in one.instruction.outs:
            lines[method.values[method.values[out].base].name] = one.instruction.source
    tensors = ", ".join(
        f"{buffer.name} {buffer.size:,}{f' ({lines[buffer.name]})' if lines.get(buffer.name) else ''}"
        for buffer in live
    )
    at_step = steps[min(step, len(steps) - 1)].instruction.where if steps else "the start"
    raise PlanError(
        f"the program needs {needed:,} bytes of RAM (arena {arena:,}, stack {board.stack:,}"
        f"{f', static {static_bytes:,}' if static_bytes else ''}), "
        f"the board has {ram:,}",
        where=f"board {board.name}",
        hint=f"at the peak, {at_step}: {tensors}",
    )


def peak(the_problem: Problem) -> tuple[int, tuple[Buffer, ...]]:
    """The first step with the most live bytes, and its buffers, largest first."""
    steps = range(max((stop for buffer in the_problem.buffers for _, stop in buffer.live), default=1))

    def live(step: int) -> tuple[Buffer, ...]:
        return tuple(
            buffer for buffer in the_problem.buffers if any(start <= step < stop for start, stop in buffer.live)
        )

    worst = max(steps, key=lambda step: (sum(buffer.size for buffer in live(step)), -step))
    return worst, tuple(sorted(live(worst), key=lambda buffer: (-buffer.size, buffer.name)))
