"""The network as a graph: a line a step, in order of execution, and beside it what reads what. Gives the text of an SVG
element for a page of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from etexport.artifacts.memory import MemoryMap, MethodUse, Step, TensorType
from etexport.report.template import render

# Pixels. As wide as its longest line: a page that is narrower scrolls.
_ROW = 26
_LANE = 16
_LEFT, _RIGHT, _TOP = 18, 14, 20
_LETTER = 6.7
_LONGEST = 40

_Key = tuple[str, int | str]
"""A line of the picture: "step" and its number, or "in", "state" or "out" and a name."""


@dataclass(frozen=True)
class Node:
    """`kind` is "in", "state" or "out", else the step's, and "delegate" for a call of one."""

    kind: str
    x: int
    y: int
    name: str
    note: str
    share: str
    title: str


@dataclass(frozen=True)
class Wire:
    """`kind` is "data", "back" where what is read was made by the round or run before, or "jump"."""

    kind: str
    path: str


@dataclass(frozen=True)
class _Line:
    key: _Key
    kind: str
    name: str
    note: str = ""
    share: str = ""
    title: str = ""


@dataclass(frozen=True)
class _Lane:
    """Lines from `first` to `last`; `maker` is the line that it comes from."""

    first: int
    last: int
    maker: int
    readers: tuple[int, ...]
    jump: bool = False


def graph(memory: MemoryMap, method: MethodUse, shares: Mapping[int, str]) -> str:
    """SVG text of one method; `shares` says by handle what part of the time a step takes."""
    lines = tuple(_lines(memory, method, shares))
    row = {line.key: at for at, line in enumerate(lines)}
    lanes = sorted(_lanes(memory, method, row), key=lambda lane: (lane.first, lane.jump, -lane.last))
    found, width = _columns(lanes)
    column = {lane.maker: at for lane, at in zip(lanes, found, strict=True)}
    text_x = _LEFT + width * _LANE
    note_x = text_x + _wide(line.name for line in lines)
    share_x = note_x + _wide(line.note for line in lines) + _wide(shares.values())

    def x(at: int) -> int:
        return _LEFT + column[at] * _LANE

    def y(at: int) -> int:
        return _TOP + at * _ROW

    return render(
        "graph.svg.j2",
        width=share_x + _RIGHT,
        height=y(len(lines) - 1) + _TOP,
        text_x=text_x,
        note_x=note_x,
        share_x=share_x,
        wires=[
            Wire(
                "jump" if lane.jump else "data" if reader > lane.maker else "back",
                _path(x(lane.maker), y(lane.maker), x(reader), y(reader)),
            )
            for lane in lanes
            for reader in lane.readers
        ],
        nodes=[
            Node(line.kind, x(at), y(at), line.name, line.note, line.share, line.title) for at, line in enumerate(lines)
        ],
    )


def _lines(memory: MemoryMap, method: MethodUse, shares: Mapping[int, str]) -> Iterator[_Line]:
    """Inputs and states, steps, outputs."""
    at = memory.methods.index(method)
    first_input = sum(one.inputs for one in memory.methods[:at])
    first_output = sum(one.outputs for one in memory.methods[:at])
    inputs = memory.inputs[first_input : first_input + method.inputs]
    for tensor in inputs:
        yield _Line(("in", tensor.name), "in", tensor.name, f"input {_typed(tensor)}")
    for name in _states(memory, method):
        yield _Line(("state", name), "state", name, "state, kept from run to run")
    for step in memory.steps[method.first : method.first + method.steps]:
        kind = "delegate" if step.op.startswith("delegate::") else step.kind
        title = " ".join(filter(None, (step.source, step.code)))
        share = shares.get(step.handle, "")
        yield _Line(("step", step.step), kind, _short(step.name), _note(memory, step), share, title)
    for tensor in memory.outputs[first_output : first_output + method.outputs]:
        yield _Line(("out", tensor.name), "out", tensor.name, f"output {_typed(tensor)}")


def _states(memory: MemoryMap, method: MethodUse) -> list[str]:
    inputs = {tensor.name for tensor in memory.inputs}
    named = (maker for maker, _ in method.wires if isinstance(maker, str))
    return list(dict.fromkeys(name for name in named if name not in inputs))


def _note(memory: MemoryMap, step: Step) -> str:
    operator = step.op.partition("::")[2].partition(".")[0]
    if step.target is None:
        return " ".join((operator, *map(_typed, step.results[:1])))
    there = memory.steps[step.target].name if step.target < len(memory.steps) else "the end"
    return f"{f'where not {step.condition}: ' if step.condition else ''}to {there}"


def _typed(tensor: TensorType) -> str:
    return f"{'×'.join(map(str, tensor.shape)) or 'one'} {tensor.dtype}"


def _wide(texts: Iterable[str]) -> int:
    """Pixels that the longest takes, with those before the next column."""
    return round(max(map(len, texts), default=0) * _LETTER) + 18


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _lanes(memory: MemoryMap, method: MethodUse, row: Mapping[_Key, int]) -> Iterator[_Lane]:
    """One a line, from there to its last reader."""
    states = set(_states(memory, method))
    readers: dict[int, list[int]] = {at: [] for at in row.values()}
    for maker, reader in method.wires:
        begin = row["step", maker] if isinstance(maker, int) else row["state" if maker in states else "in", maker]
        end = row["step", reader] if isinstance(reader, int) else row["state" if reader in states else "out", reader]
        readers[begin].append(end)
    last_step = method.first + method.steps
    ends = [at for key, at in row.items() if key[0] == "out"] or [len(row) - 1]
    for step in memory.steps[method.first : last_step]:
        if step.target is not None:
            at = row["step", step.step]
            target = row["step", step.target] if step.target < last_step else ends[0]
            yield _Lane(min(at, target), max(at, target), at, (target,), jump=True)
            del readers[at]  # of a counted loop's jump, its count
    for at, found in readers.items():
        yield _Lane(min((at, *found)), max((at, *found)), at, tuple(found))


def _columns(lanes: Sequence[_Lane]) -> tuple[list[int], int]:
    """The leftmost column that is free for each, and how many there are. A line's own column may be that of what ends
    there."""
    ends: list[int] = []
    found = []
    for lane in lanes:
        column = next((at for at, end in enumerate(ends) if end <= lane.first), len(ends))
        ends[column : column + 1] = [lane.last]
        found.append(column)
    return found, len(ends)


def _path(x: int, y: int, to_x: int, to_y: int) -> str:
    """Straight along its own column, and over to the other one in the last line."""
    if x == to_x:
        return f"M{x} {y}V{to_y}"
    before = to_y - _ROW if to_y > y else to_y + _ROW
    middle = (before + to_y) // 2
    return f"M{x} {y}V{before}C{x} {middle} {to_x} {middle} {to_x} {to_y}"
