"""The constants of several methods as the program's: passes make them method by method, and equal ones become one
again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etexport.program.model import Method, Role, TensorSpec, Value


def share_constants(methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods with one id for equal constants, and no id for two: where a constant of one method has the content of
    a constant of another, it becomes that one, unless a value of its method already bears that one's name or id.
    """
    next_id = max((method.next_id() for method in methods), default=0)
    known: dict[int, Value] = {}
    states = {one.id for method in methods for one in method.values.values() if one.role is Role.STATE}
    found: dict[tuple[TensorSpec, bytes], Value] = {}
    done = []
    for method in methods:
        new: dict[int, Value] = {}
        names = {value.name for value in method.values.values()}
        for value in sorted(method.values.values(), key=lambda value: value.id):
            before = known.get(value.id)
            if value.role is not Role.CONSTANT or (
                before is not None and before.data is value.data and before.spec == value.spec
            ):
                continue
            equal = found.get((value.spec, value.physical_bytes))
            free = equal is not None and (equal.id == value.id or equal.id not in method.values)
            if equal is not None and free and (equal.name == value.name or equal.name not in names):
                names.add(equal.name)
                new[value.id] = equal
            elif before is not None or value.id in states:
                new[value.id] = replace(value, id=next_id)
                next_id += 1
        method = _with(method, new)
        done.append(method)
        constants = [value for value in method.values.values() if value.role is Role.CONSTANT]
        known |= {value.id: value for value in constants}
        for value in constants:
            found.setdefault((value.spec, value.physical_bytes), value)
    return tuple(done)


def _with(method: Method, new: dict[int, Value]) -> Method:
    """The method with these values in place of those with the ids that name them."""
    if not new:
        return method
    ids = {old: value.id for old, value in new.items()}
    values = {ids.get(id_, id_): new.get(id_, value) for id_, value in method.values.items()}
    instructions = tuple(one.renamed(ids) for one in method.instructions)
    return replace(
        method, values=values, instructions=instructions, outputs=tuple(ids.get(id_, id_) for id_ in method.outputs)
    )
