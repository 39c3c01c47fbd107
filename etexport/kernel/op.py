"""What a kernel folder declares of one operator, by the name that it has in a program. How it is quantised is said
beside it, by the name that it has in a model (`etexport.kernel.int8`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from etexport.kernel.call import Call, Target
from etexport.kernel.cases import Case, Draw
from etexport.kernel.node import Node
from etexport.kernel.schema import Schema, parse_schema
from etexport.program.model import Arg, DType, Instruction, Ref, TensorSpec


class Layout(Enum):
    """Which dim orders a kernel takes. The layout pass makes them so, by conversions where it must."""

    FOLLOW = "follow"
    """Every tensor operand in any dim order (the kernel takes strides). An output of the first operand's rank gets its
    order."""

    CHANNELS_LAST = "channels_last"
    """The first tensor operand, the first output and a residual are channels last; other operands are contiguous."""

    CONTIGUOUS = "contiguous"
    """All tensors in logical order."""

    VIEW = "view"
    """The output is the first operand's elements in logical order under another shape: no kernel, an address where
    possible."""

    PERMUTE = "permute"
    """The output is the first operand with permuted dimensions: no kernel, an address with another dim order."""


InferredSpec = tuple[DType, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Replacement:
    """A kernel in place of another folder's, in `REPLACES = [...]` of the folder that has it.

    op        the operator: "aten::convolution.out"; of an int8 network the integer one, as `etexport ops` lists it
    lower     as of an `Op`, with what the instruction has absorbed (`node.instruction.epilogue`); None leaves it to the
              kernel before
    layers    only instructions with such a name ("conv1", "block_*") or at such a line of the script ("model.py:12")
    features  what the core must have: {"dsp"}
    """

    op: str
    lower: Callable[[Node, Target], Call | None]
    layers: tuple[str, ...] = ("*",)
    features: frozenset[str] = frozenset()

    def fits(self, node: Node, target: Target) -> bool:
        names = (node.instruction.name, str(node.instruction.source))
        return self.features <= target.features and any(fnmatchcase(*one) for one in product(names, self.layers))


@dataclass(frozen=True, eq=False)
class Op:
    """One operator overload that the project can run.

    schema      the out-variant's schema, as PyTorch prints it
    infer       dtype and shape of each output from the operands; raises `node.error(...)` for attribute values that are
                illegal
    lower       the C++ call for a target; None for views and permutes, which need no code
    dtypes      element types of the first tensor operand that `lower` takes
    reference   the numpy meaning, for constant folding: operands by position (arrays, lists, literals) -> array, or a
                tuple of them
    layout      which dim orders the kernel takes
    absorbs     epilogue parts the kernel can do: "clamp", "residual"
    clamp       (low, high) where this instruction is nothing but a clamp of its first operand, else None
    inplace     names of operands whose memory output 0 may take over: same size and dim order, element i read before i
                is written
    over        whether output 0 may be made over a buffer of its size (by id) in which operands lie: what is read there
                is read before it is written
    alias       byte offset at which output 0 lies inside the first operand as it is now laid out, or None where it must
                be copied
    parts       for a concatenation: byte offset of each operand inside output 0, or None where it must be copied
    elementwise output i depends on element i of its tensor operands only, which broadcast: chains of such become a
      table in int8
    carries     names of operands of whose elements the first result consists, moved, chosen or repeated, never computed
                with: what is so
                for real numbers is so for int8 of one scale, for these are in the same order (a view or a permute
                carries its first)
    exact       results must be eager PyTorch's bit for bit (movement, comparison); else 2e-6 * magnitude *
                sqrt(`sum_length`)
    sum_length  how many terms are added up for one result
    cases, draw the documented cases, and a function that draws more within the schema's legal range
    """

    schema: str
    infer: Callable[[Node], tuple[InferredSpec, ...]]
    lower: Callable[[Node, Target], Call] | None = None
    dtypes: tuple[DType, ...] = (DType.FLOAT32,)
    reference: Callable[..., Any] | None = None
    layout: Layout = Layout.FOLLOW
    absorbs: frozenset[str] = frozenset()
    clamp: Callable[[Node], tuple[float, float] | None] | None = None
    inplace: tuple[str, ...] = ()
    over: Callable[[Node, int], bool] | None = None
    alias: Callable[[Node], int | None] | None = None
    parts: Callable[[Node], tuple[int, ...] | None] | None = None
    elementwise: bool = False
    carries: tuple[str, ...] = ()
    exact: bool = False
    sum_length: Callable[[Node], int] | None = None
    cases: tuple[Case, ...] = ()
    draw: Callable[[Draw], Case] | None = None
    family: str = field(default="", compare=False)
    """Name of the kernel folder; filled in when it is loaded."""

    @property
    def signature(self) -> Schema:
        return parse_schema(self.schema)

    @property
    def name(self) -> str:
        return self.signature.name


def carried(op: Op, instruction: Instruction) -> tuple[Ref, ...]:
    """The tensors of whose elements the first result consists (`Op.carries`); none for an operator that computes."""
    names = [parameter.name for parameter in op.signature.parameters]
    if "accumulate" in names and instruction.args[names.index("accumulate")]:
        return ()
    places = [0] if op.layout in (Layout.VIEW, Layout.PERMUTE) else [names.index(name) for name in op.carries]
    found: list[Arg] = []
    for place in places:
        arg = instruction.args[place]
        found.extend(arg if isinstance(arg, tuple) else (arg,))
    refs = tuple(arg for arg in found if isinstance(arg, Ref))
    return refs if len(refs) == len(found) else ()


def spec_of(spec: TensorSpec) -> InferredSpec:
    """The part of a spec that `infer` talks about."""
    return spec.dtype, spec.shape
