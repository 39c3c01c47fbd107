"""Whether every instruction is what its operator declares, and has a kernel: all that are not are reported at once,
before any stage that counts on it."""

from __future__ import annotations

import difflib

import numpy as np

from etexport.errors import EtError, ModelError, doing, raise_all
from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.kernel.op import Op, spec_of
from etexport.program.draft import Draft
from etexport.program.model import BEGIN, JUMPS, MOVE, Instruction, Method, Program


def check_declared(method: Method, library: Library) -> None:
    """ModelError, or `Errors` of several: an instruction whose arguments, or whose results, are not those of its
    operator. Operators that nobody declares pass: they may be for others to take apart."""
    known = [
        (instruction, op) for instruction in method.instructions if (op := library.find(instruction.op)) is not None
    ]
    raise_all([error for instruction, op in known if (error := _undeclared(method, instruction, op)) is not None])


def legal(draft: Draft, instruction: Instruction, library: Library) -> bool:
    """Whether the operator is known, allows these operands and gives these results. Passes leave alone what it does
    not, as in a damaged file: it is reported after them, with all the rest."""
    op = library.find(instruction.op)
    return op is not None and _undeclared(draft.as_it_is(), instruction, op) is None


def check(program: Program, library: Library) -> None:
    """ModelError, or `Errors` of several: no kernel, no kernel for this element type, or arguments that the operator
    does not allow."""
    raise_all([error for method in program.methods for error in errors_of(method, library)])


def errors_of(method: Method, library: Library) -> list[EtError]:
    """What `check` reports, of one method."""
    computing = [instruction for instruction in method.instructions if instruction.op not in (BEGIN, MOVE, *JUMPS)]
    return [error for instruction in computing if (error := _error(method, instruction, library)) is not None]


def _error(method: Method, instruction: Instruction, library: Library) -> ModelError | None:
    op = library.find(instruction.op)
    if op is None:
        return ModelError("no kernel for this operator", where=instruction.where, hint=_near(instruction.op, library))
    return _undeclared(method, instruction, op) or _dtype_error(node_of(method, instruction, op), op)


def _undeclared(method: Method, instruction: Instruction, op: Op) -> ModelError | None:
    try:
        with doing(instruction.where), np.errstate(all="ignore"):
            return _result_error(node_of(method, instruction, op), op)
    except ModelError as error:
        return error


def _near(name: str, library: Library) -> str:
    """The operators with a kernel whose names are most alike, and what to do."""
    families: dict[str, list[str]] = {}
    for known in sorted(library.ops):
        families.setdefault(_family(known), []).append(known)
    wanted = _family(name)
    longer = [family for family in families if family.startswith(wanted)]
    alike = difflib.get_close_matches(wanted, families, n=3, cutoff=0.6)
    near = [known for family in list(dict.fromkeys((*longer, *alike)))[:3] for known in families[family]]
    add = f"or add a folder kernels/{wanted}/"
    return (
        f"near: {', '.join(near)}; write the model with these, {add}"
        if near
        else f"write it with other operators, {add}"
    )


def _family(name: str) -> str:
    """`max_pool2d_with_indices` of `aten::max_pool2d_with_indices.out`."""
    return name.partition("::")[2].partition(".")[0]


def _dtype_error(node: Node, op: Op) -> ModelError | None:
    tensors = node.tensors or node.outs
    if op.lower is None or not tensors or tensors[0].spec.dtype in op.dtypes:
        return None
    dtype = tensors[0].spec.dtype
    known = ", ".join(str(known.numpy) for known in op.dtypes)
    hint = "make model and inputs float32: model.float()" if dtype.numpy.kind == "f" else ""
    return node.error(f"the kernel takes {known}, not {dtype.numpy}", hint)


def _result_error(node: Node, op: Op) -> ModelError | None:
    inferred = op.infer(node)
    for value, (dtype, shape) in zip(node.outs, inferred, strict=True):
        if spec_of(value.spec) != (dtype, tuple(shape)):
            return node.error(
                f"the result is {value.spec} in the program, and by the operator {dtype.numpy} {list(shape)}"
            )
    return None
