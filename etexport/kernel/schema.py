"""The schema of an operator, as PyTorch prints it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """`kind` is PyTorch's type word ("Tensor", "Tensor?", "Tensor[]", "int[]", "Scalar", "float", "bool", "str",
    ...)."""

    name: str
    kind: str
    default: str | None = None


@dataclass(frozen=True)
class Schema:
    """An operator's out-variant schema, as PyTorch prints it."""

    name: str
    parameters: tuple[Parameter, ...]
    outs: tuple[str, ...]


_PARAMETER = re.compile(
    r"(?P<kind>[A-Za-z]+(?:\([a-z]!\))?(?:\[\d*\])?\??(?:\[\d*\])?\??) (?P<name>\w+)(?:=(?P<default>.+))?"
)


@functools.cache
def parse_schema(text: str) -> Schema:
    """Parse `ns::op.overload(Tensor self, ..., *, Tensor(a!) out) -> Tensor(a!)`. Results are those marked `(x!)`; one
    that is not behind the `*`, as `self` of `aten::copy_`, is written in place and an argument as well.
    """
    name, _, rest = text.partition("(")
    inside = rest[: rest.rindex(") ->")]
    parameters: list[Parameter] = []
    outs: list[str] = []
    keyword_only = False
    for part in re.split(r", (?![^\[]*\])", inside):
        if part in ("*", ""):
            keyword_only = keyword_only or part == "*"
            continue
        match = _PARAMETER.fullmatch(part)
        assert match, f"cannot parse {part!r} of {text!r}"
        if "!" in match["kind"]:
            outs.append(match["name"])
        if "!" not in match["kind"] or not keyword_only:
            kind = re.sub(r"\([a-z]!\)", "", re.sub(r"\[\d+\]", "[]", match["kind"])).replace("SymInt", "int")
            parameters.append(Parameter(match["name"], kind, match["default"]))
    return Schema(name, tuple(parameters), tuple(outs))
