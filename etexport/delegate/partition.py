"""The parts of a program that delegates take, each as one call. A group must be convex: no way leads out of it and back
into it."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from etexport.backend import Backend, Claims, Compiled, Options
from etexport.delegate.library import SUBGRAPH
from etexport.delegate.load import load_backends, told
from etexport.errors import ModelError
from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.program import pte
from etexport.program.draft import Draft
from etexport.program.flow import block_starts, changing
from etexport.program.model import (
    BEGIN,
    JUMPS,
    MOVE,
    ROW,
    SET_ROW,
    Delegate,
    Instruction,
    Method,
    Program,
    Ref,
    Role,
    Source,
)
from etexport.project import Project


@dataclass(frozen=True)
class Left:
    """An operator that the backend `by` did not take."""

    by: str
    name: str
    op: str
    source: Source | None
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.op}){f' at {self.source}' if self.source else ''}: {self.reason}"


def delegated(
    program: Program, asked: Mapping[str, Options], library: Library
) -> tuple[Program, tuple[Left, ...], dict[str, str]]:
    """The program with what each of the `asked` backends takes as calls of it, the first asked first; what they left,
    and the backend of each call by its operator. ModelError for one that is not there."""
    delegates = dict(program.delegates)
    left: list[Left] = []
    by: dict[str, str] = {}
    for name, options in asked.items():
        backend = _known(name, library.project)
        methods = []
        for method in program.methods:
            splitting = _Splitting(method, backend, options, library)
            methods.append(splitting.done())
            delegates |= splitting.made
            left += splitting.left
            by |= dict.fromkeys(splitting.made, name)
        program = replace(program, methods=tuple(methods), delegates=delegates)
    return program, tuple(left), by


def _known(name: str, project: Project) -> Backend:
    backends = load_backends(project)
    if name not in backends or backends[name].claim is None:
        known = ", ".join(known for known, one in backends.items() if one.claim is not None) or "none"
        raise ModelError(f"no delegate is called {name}", hint=f"known: {known}; docs/delegates.md has how to add one")
    return backends[name]


class _Splitting:
    """One method, and what one backend takes of it."""

    def __init__(self, method: Method, backend: Backend, options: Options, library: Library) -> None:
        self.method, self.backend, self.options, self.library = method, backend, options, library
        self.changing = changing(method)
        self.uses = method.uses()
        self.made: dict[str, Delegate] = {}
        self.left: list[Left] = []

    def done(self) -> Method:
        instructions = self.method.instructions
        starts = sorted({*block_starts(instructions), len(instructions)})
        blocks = {first: self.block(instructions[first:last]) for first, last in itertools.pairwise(starts)}
        draft = Draft(self.method)
        at = iter(range(len(instructions)))
        # all of a block stands where it began: jumps to that lead to its first instruction
        draft.rewrite(lambda _: blocks.get(next(at), ()))
        return draft.done()

    def block(self, instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
        """The instructions of a block, those of a group as one call."""
        nodes = [node for one in instructions if (node := self.node(one)) is not None]
        claims = self.claims(nodes)
        positions = {one.handle: at for at, one in enumerate(instructions)}
        after = self.dependencies(instructions)
        owners = convex(after, [{positions[handle] for handle in group} for group in claims.groups])
        for handle, reason in claims.refused.items():
            one = instructions[positions[handle]]
            self.left.append(Left(self.backend.family, one.name, one.op, one.source, reason))
        taken = {positions[handle] for group in claims.groups for handle in group}
        order = ordered(after, owners)
        assert order is not None
        members = {owner: [at for at in range(len(owners)) if owners[at] == owner] for owner in order}
        return tuple(
            self.call([instructions[at] for at in members[owner]]) if owner in taken else instructions[owner]
            for owner in order
        )

    def node(self, instruction: Instruction) -> Node | None:
        """What can be offered: operators that compute from what does not change."""
        op = self.library.find(instruction.op)
        moves = instruction.op in (BEGIN, MOVE, ROW, SET_ROW, *JUMPS)
        if op is None or moves or not self.changing.isdisjoint((*instruction.reads, *instruction.outs)):
            return None
        return node_of(self.method, instruction, op)

    def claims(self, nodes: Sequence[Node]) -> Claims:
        assert self.backend.claim is not None
        with told(self.backend, "failed to claim operators"):
            claims = self.backend.claim(nodes, self.options)
            offered = {node.instruction.handle for node in nodes}
            named = Counter(handle for group in claims.groups for handle in group)
            if not offered >= {*named, *claims.refused} or any(count > 1 for count in named.values()):
                raise ValueError("it claims what it was not offered, or an operator twice")
        return claims

    def dependencies(self, instructions: Sequence[Instruction]) -> list[set[int]]:
        """For each instruction those of the block that come before it: what makes its operands, and the one before
        where both have to do with what changes, or jump."""
        found: list[set[int]] = []
        makers: dict[int, int] = {}
        last = None
        for at, one in enumerate(instructions):
            before = {makers[read] for read in one.reads if read in makers}
            if one.op in JUMPS:
                before.update(range(at))
            if not self.changing.isdisjoint((*one.reads, *one.outs)) or one.op in (BEGIN, MOVE):
                before |= {last} if last is not None else set()
                last = at
            found.append(before)
            makers.update(dict.fromkeys(one.outs, at))
        return found

    def call(self, group: Sequence[Instruction]) -> Instruction:
        """The group compiled, as one instruction under the handle and name of its last."""
        inside = Counter(read for one in group for read in one.reads)
        made = [out for one in group for out in one.outs]
        outs = tuple(out for out in made if self.uses[out] > inside[out])
        values = self.method.values
        inputs = tuple(id_ for id_ in inside if id_ not in made and values[id_].role is not Role.CONSTANT)
        used = {*inside, *made}
        roles = (
            dict.fromkeys(made, Role.ACTIVATION) | dict.fromkeys(inputs, Role.INPUT) | dict.fromkeys(outs, Role.OUTPUT)
        )
        part = Method(
            self.backend.family,
            {id_: replace(values[id_], role=roles.get(id_, values[id_].role)) for id_ in sorted(used)},
            tuple(group),
            inputs,
            outs,
        )
        delegate = self.compiled(part)
        self.made[delegate.op] = delegate
        last = next(one for one in reversed(group) if outs[0] in one.outs)
        return replace(last, op=delegate.op, args=tuple(map(Ref, inputs)), outs=outs)

    def compiled(self, part: Method) -> Delegate:
        assert self.backend.compile is not None
        with told(self.backend, f"failed to compile {part.instructions[-1].name}"):
            made = self.backend.compile(part, self.options)
            if not isinstance(made, Compiled):
                raise TypeError(f"compile() gave a {type(made).__name__}")
        specs = {**made.specs, **({} if self.backend.reference else {SUBGRAPH: pte.write(Program((part,)))})}
        sides = (tuple(part.values[id_].spec for id_ in side) for side in (part.inputs, part.outputs))
        return Delegate(self.backend.id, made.blob, tuple(sorted(specs.items())), *sides)


def convex(after: Sequence[set[int]], claimed: Sequence[set[int]]) -> list[int]:
    """For each instruction of a block the one that stands for its group, itself where it is in none. What is claimed
    together and hangs together is one group, as far as the whole can still be put in order; `after` has what each one
    must follow."""
    owners = list(range(len(after)))
    for group in claimed:
        for at in sorted(group):
            for before in sorted(after[at] & group):
                joined = [owners[before] if owner == owners[at] else owner for owner in owners]
                if joined != owners and ordered(after, joined) is not None:
                    owners = joined
    return owners


def ordered(after: Sequence[set[int]], owners: Sequence[int]) -> list[int] | None:
    """The groups in an order in which each follows what it must, otherwise as their last instructions stand; None where
    there is none."""
    last = {owner: at for at, owner in enumerate(owners)}
    waits: dict[int, set[int]] = {owner: set() for owner in last}
    for at, before in enumerate(after):
        waits[owners[at]] |= {owners[one] for one in before} - {owners[at]}
    followers: dict[int, list[int]] = {owner: [] for owner in last}
    for owner, before in waits.items():
        for one in before:
            followers[one].append(owner)
    left = {owner: len(before) for owner, before in waits.items()}
    ready = [(last[owner], owner) for owner, count in left.items() if not count]
    heapq.heapify(ready)
    found: list[int] = []
    while ready:
        _, owner = heapq.heappop(ready)
        found.append(owner)
        for one in followers[owner]:
            left[one] -= 1
            if not left[one]:
                heapq.heappush(ready, (last[one], one))
    return found if len(found) == len(last) else None
