"""What must survive a file: everything but the numbers of values and instructions."""

from __future__ import annotations

from typing import Any

from etexport.program.model import JUMP_FALSE, Arg, Method, Program, Ref, Role, Value


def described(program: Program) -> dict[str, Any]:
    """The program as plain data, with names in the place of ids and positions in the place of handles."""
    return {
        "methods": [_method(one) for one in program.methods],
        "metadata": dict(program.metadata),
        "constant_methods": {name: repr(literals) for name, literals in program.constant_methods.items()},
    }


def _method(method: Method) -> dict[str, Any]:
    names = {id_: value.name for id_, value in method.values.items()}
    positions = {instruction.handle: position for position, instruction in enumerate(method.instructions)}

    def arg(one: Arg) -> Any:
        if isinstance(one, Ref):
            return f"<{names[one.id]}>"
        if isinstance(one, tuple):
            return [arg(item) for item in one]
        return repr(one)

    def args(op: str, found: tuple[Arg, ...]) -> Any:
        if op == JUMP_FALSE and isinstance(found[1], int):
            return [arg(found[0]), positions.get(found[1], "end")]
        return [arg(one) for one in found]

    used = {id_ for one in method.instructions for id_ in (*one.reads, *one.outs)} | {*method.inputs, *method.outputs}
    return {
        "name": method.name,
        "values": {
            value.name: (str(value.spec), value.spec.dim_order, value.role, _content(value))
            for value in method.values.values()
            if value.id in used
        },
        "instructions": [
            (one.op, args(one.op, one.args), [names[out] for out in one.outs], one.name, one.source)
            for one in method.instructions
        ],
        "inputs": [names[id_] for id_ in method.inputs],
        "outputs": [names[id_] for id_ in method.outputs],
    }


def _content(value: Value) -> bytes | None:
    """A state that starts as zeros says so by having no content, or by zeros."""
    if value.data is None or (value.role is Role.STATE and not any(value.data.tobytes())):
        return None
    return value.data.tobytes()
