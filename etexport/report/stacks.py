"""A profile by function and by line of the script, as others draw it: a Chrome trace (Perfetto, chrome://tracing) and
collapsed stacks (flamegraph.pl, speedscope)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from etexport.artifacts.memory import Step
from etexport.report.profile import kernel_name

BETWEEN = "between steps"


@dataclass(frozen=True)
class Stack:
    """Counts of one place in the code, on one way there: the model, the step with its line of the script, functions
    from outermost on."""

    frames: tuple[str, ...]
    source: str
    """`file:line` of the model script; BETWEEN outside the steps."""
    count: int


def stacks(
    model: str, steps: Sequence[Step], counts: Sequence[tuple[int, int | None, tuple[str, ...]]]
) -> tuple[Stack, ...]:
    """From (count, step, functions); in the order of the steps, and what is between them last."""
    found: dict[tuple[int, tuple[str, ...], str], int] = {}
    for count, at, functions in counts:
        step = steps[at] if at is not None and at < len(steps) else None
        name, source = (
            (f"{step.source} {step.name} ({step.op})".strip(), step.source) if step is not None else (BETWEEN, BETWEEN)
        )
        key = (
            len(steps) if step is None else step.step,
            (model, name, *map(short_name, functions)),
            source or "no line",
        )
        found[key] = found.get(key, 0) + count
    return tuple(Stack(frames, source, count) for (_, frames, source), count in sorted(found.items()))


def of_steps(model: str, steps: Sequence[Step], counts: Sequence[int]) -> tuple[Stack, ...]:
    """From the counts of a run with probes, one a step: a step's kernel is all that is known of its inside."""
    return stacks(
        model,
        steps,
        [(count, at, (kernel_name(steps[at]),)) for at, count in enumerate(counts) if steps[at].kind == "call"],
    )


def short_name(function: str) -> str:
    """A C++ function without its types: `column_dsp` for `void et::column_dsp<(et::Paired8)0>(et::Store8 const&,
    long)`."""
    plain = re.sub(r" \[clone [^]]*\]", "", function)
    text, last = plain.replace("(anonymous namespace)", "anonymous").replace("::operator()", ""), ""
    while text != last:  # innermost brackets first
        text, last = re.sub(r"\([^()<>]*\)|<[^()<>]*>", "", text), text
    if any(bracket in text for bracket in "()<>"):  # an operator of that name
        text = function
    return re.sub(r"\b(?:et|et_size|anonymous)::", "", text.removesuffix(" const").rpartition(" ")[2]).replace(";", ",")


def by_function(found: Sequence[Stack]) -> list[tuple[str, int]]:
    """What each function takes itself, most first."""
    return _summed((stack.frames[-1], stack.count) for stack in found)


def by_source(found: Sequence[Stack]) -> list[tuple[str, int]]:
    """What each line of the script takes, most first."""
    return _summed((stack.source, stack.count) for stack in found)


def _summed(pairs: Iterator[tuple[str, int]]) -> list[tuple[str, int]]:
    sums: dict[str, int] = {}
    for name, count in pairs:
        sums[name] = sums.get(name, 0) + count
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))


def collapsed(found: Sequence[Stack]) -> str:
    """One line a stack, outermost first: `model;step;function;... COUNT`."""
    return "".join(f"{';'.join(stack.frames)} {stack.count}\n" for stack in found)


@dataclass
class _Node:
    count: int = 0
    inside: dict[str, _Node] = field(default_factory=dict)


def chrome_trace(found: Sequence[Stack], unit: str) -> str:
    """The Trace Event Format (complete events): a microsecond stands for one count. Steps come in order; inside one, a
    function stands once on each way to it, with all that it took there, the largest first: when it ran is not known."""
    root = _Node()
    for stack in found:
        node = root
        for name in stack.frames:
            node = node.inside.setdefault(name, _Node())
            node.count += stack.count
    lines = [
        json.dumps({"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": f"{unit}: 1 us is one"}})
    ]
    lines += [json.dumps(event) for event in _events(root, 0, depth=0)]
    return '{"traceEvents": [\n' + ",\n".join(lines) + "\n]}\n"


_IN_ORDER = 2
"""Depths whose children come as they are: the model, and its steps."""


def _events(node: _Node, start: int, depth: int) -> Iterator[dict[str, object]]:
    order = (
        node.inside.items()
        if depth < _IN_ORDER
        else sorted(node.inside.items(), key=lambda pair: (-pair[1].count, pair[0]))
    )
    for name, inner in order:
        yield {"name": name, "ph": "X", "pid": 1, "tid": 1, "ts": start, "dur": inner.count}
        yield from _events(inner, start, depth + 1)
        start += inner.count
