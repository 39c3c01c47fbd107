"""One instruction with what it touches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from etexport.errors import ModelError
from etexport.kernel.schema import Schema
from etexport.program.model import Arg, Instruction, Method, Ref, Role, Value

if TYPE_CHECKING:
    from etexport.kernel.op import Op


@dataclass(frozen=True, eq=False)
class Node:
    """An instruction together with its operands: `node["self"]` is a Value for a tensor, a tuple for a list, else the
    literal."""

    instruction: Instruction
    schema: Schema
    operands: Mapping[str, Any]
    outs: tuple[Value, ...]
    residual: Value | None = None
    unused_outs: frozenset[int] = frozenset()
    """Which results after the first (by position in `outs`) nobody reads: they have no memory, and a kernel must not
    write them."""

    def __getitem__(self, name: str) -> Any:
        return self.operands[name]

    @property
    def out(self) -> Value:
        return self.outs[0]

    @property
    def tensors(self) -> tuple[Value, ...]:
        """Every tensor operand, in schema order, list members in place; absent optional ones left out."""
        found: list[Value] = []
        for operand in self.operands.values():
            found.extend(
                value for value in (operand if isinstance(operand, tuple) else (operand,)) if isinstance(value, Value)
            )
        return tuple(found)

    def error(self, what: str, hint: str = "") -> ModelError:
        return ModelError(what, where=self.instruction.where, hint=hint)

    def dimension(self, dim: int, rank: int, *, of_scalars: bool = True) -> int:
        """`dim` counted from 0. PyTorch's rule that a scalar has the dimensions 0 and -1 goes for most operators, not
        for all."""
        count = max(rank, 1) if of_scalars else rank
        if not -count <= dim < count:
            raise self.error(f"dimension {dim} of a tensor with {rank} dimensions")
        return dim % count


def node_of(method: Method, instruction: Instruction, op: Op) -> Node:
    """Resolve an instruction's operands against the operator's schema; ModelError where number or kind does not fit."""
    schema = op.signature

    def fail(what: str) -> ModelError:
        return ModelError(f"{what}; the operator is {op.schema}", where=instruction.where)

    if len(instruction.args) != len(schema.parameters):
        raise fail(f"{len(instruction.args)} arguments where {len(schema.parameters)} belong")
    if len(instruction.outs) != len(schema.outs):
        raise fail(f"{len(instruction.outs)} results where {len(schema.outs)} belong")
    operands: dict[str, Any] = {}
    for parameter, arg in zip(schema.parameters, instruction.args, strict=True):
        if not _fits(parameter.kind, arg):
            raise fail(f"argument {parameter.name!r} is {arg!r} where {parameter.kind} belongs")
        operands[parameter.name] = _resolve(method, arg)
    epilogue = instruction.epilogue
    residual = method.values[epilogue.residual.id] if epilogue is not None and epilogue.residual is not None else None
    outs = tuple(method.values[out] for out in instruction.outs)
    return Node(instruction, schema, operands, outs, residual, _unused(method, instruction))


def _unused(method: Method, instruction: Instruction) -> frozenset[int]:
    if len(instruction.outs) == 1:
        return frozenset()
    needed = needed_values(method)
    return frozenset(at for at, out in enumerate(instruction.outs) if at > 0 and out not in needed)


def needed_values(method: Method) -> frozenset[int]:
    """Ids of the values whose content somebody reads: under their own name, or that of another value on the same memory
    (a view of it, the concatenation that it is a part of)."""
    read = set(method.outputs).union(*(instruction.reads for instruction in method.instructions))
    bases = read | {storage.base for value in read if (storage := method.values[value].storage) is not None}
    parts = {value.id for value in method.values.values() if value.storage is not None and value.storage.base in bases}
    return frozenset(bases | parts)


def _resolve(method: Method, arg: Arg) -> Any:
    if isinstance(arg, Ref):
        value = method.values[arg.id]
        # what a state holds at first is nothing that a kernel may count on
        return replace(value, data=None) if value.role is Role.STATE and value.data is not None else value
    if isinstance(arg, tuple):
        return tuple(_resolve(method, item) for item in arg)
    return arg


def _fits(kind: str, arg: Arg) -> bool:
    if kind.endswith("?"):
        return arg is None or _fits(kind[:-1], arg)
    if kind.endswith("[]"):
        return isinstance(arg, tuple) and all(_fits(kind[:-2], item) for item in arg)
    if kind == "Tensor":
        return isinstance(arg, Ref)
    if kind == "bool":
        return isinstance(arg, bool)
    if kind in ("int", "ScalarType", "Layout", "MemoryFormat"):
        return isinstance(arg, int) and not isinstance(arg, bool)
    if kind == "float":
        return isinstance(arg, (int, float)) and not isinstance(arg, bool)
    if kind == "Scalar":
        return isinstance(arg, (bool, int, float))
    return kind == "str" and isinstance(arg, str)
