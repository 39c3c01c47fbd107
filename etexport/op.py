"""What a kernel folder declares, and how it is found.

A folder `kernels/<family>/` holds `op.py` with `OPS = [Op(...)]` and the C++ headers that it names. Nothing registers itself
and there is no list: `load_ops()` reads the folders, and those of installed packages through the entry point group
`etexport.kernels` (each entry is a module or package whose folder holds kernel folders).
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from etexport.errors import ModelError
from etexport.program.model import Arg, Array, DType, Instruction, Method, Ref, Role, TensorSpec, Value
from etexport.resources import kernel_folders

# ---- the schema of an operator ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """`kind` is PyTorch's type word ("Tensor", "Tensor?", "Tensor[]", "int[]", "Scalar", "float", "bool", "str", ...)."""

    name: str
    kind: str
    default: str | None = None


@dataclass(frozen=True)
class Schema:
    """An operator's out-variant schema, as PyTorch prints it."""

    name: str
    parameters: tuple[Parameter, ...]
    outs: tuple[str, ...]


_PARAMETER = re.compile(r"(?P<kind>[A-Za-z]+(?:\([a-z]!\))?(?:\[\d*\])?\??(?:\[\d*\])?\??) (?P<name>\w+)(?:=(?P<default>.+))?")


@functools.cache
def parse_schema(text: str) -> Schema:
    """Parse `ns::op.overload(Tensor self, ..., *, Tensor(a!) out) -> Tensor(a!)`. Results are those marked `(x!)`; one that is not
    behind the `*`, as `self` of `aten::copy_`, is written in place and an argument as well.
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


# ---- one instruction with what it touches ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Node:
    """An instruction together with its operands: `node["self"]` is a Value for a tensor, a tuple for a list, else the literal."""

    instruction: Instruction
    schema: Schema
    operands: Mapping[str, Any]
    outs: tuple[Value, ...]
    residual: Value | None = None
    unused_outs: frozenset[int] = frozenset()
    """Which results after the first (by position in `outs`) nobody reads: they have no memory, and a kernel must not write them."""

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
            found.extend(value for value in (operand if isinstance(operand, tuple) else (operand,)) if isinstance(value, Value))
        return tuple(found)

    def error(self, what: str, hint: str = "") -> ModelError:
        return ModelError(what, where=self.instruction.where, hint=hint)

    def dimension(self, dim: int, rank: int, *, of_scalars: bool = True) -> int:
        """`dim` counted from 0. PyTorch's rule that a scalar has the dimensions 0 and -1 goes for most operators, not for all."""
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


def _unused(method: Method, instruction: Instruction) -> frozenset[int]:
    if len(instruction.outs) == 1:
        return frozenset()
    needed = needed_values(method)
    return frozenset(at for at, out in enumerate(instruction.outs) if at > 0 and out not in needed)


def needed_values(method: Method) -> frozenset[int]:
    """Ids of the values whose content somebody reads: under their own name, or that of another value on the same memory (a view of it,
    the concatenation that it is a part of)."""
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


# ---- the C++ call of one instruction ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What kernel choice depends on: the core's features ("fpu", "dsp", "mve", "arm", "riscv", ...) and "speed" or "size"."""

    features: frozenset[str] = frozenset()
    optimize: str = "speed"
    rounding: str = "nearest"
    """How integer results are rounded: "nearest", or "tflm" for the bytes of TFLite and of ExecuTorch's cortex_m operators."""


@dataclass(frozen=True)
class Read:
    """`const T*` to the start of this value."""

    value: int


@dataclass(frozen=True)
class Write:
    """`T*` to the start of this value."""

    value: int


@dataclass(frozen=True)
class RowRead:
    """In a windowed call: `const T*` to the row of this value that has the index of the output row (a residual)."""

    value: int


@dataclass(frozen=True)
class RowWrite:
    """In a windowed call: `T*` to the row of this value that has the index of the output row (a further result)."""

    value: int


@dataclass(frozen=True, eq=False)
class Const:
    """`const T*` to packed data in flash; `name` says what it is ("weight", "bias"). None as data gives a null pointer."""

    name: str
    data: Array | None


@dataclass(frozen=True)
class Scratch:
    """`T*` to bytes that the planner provides during this call only."""

    dtype: DType
    elements: int


Operand = Read | Write | RowRead | RowWrite | Const | Scratch


@dataclass(frozen=True)
class Window:
    """How a windowed kernel is swept over output rows: `et::sweep` calls it once for every `rows_per_call` rows, from the first to the
    last, or `upward` from the last to the first (which the plan decides, see `Call.overlaps`).

    Output row r of image n reads input rows r * stride - pad + k * dilation, k = 0 .. kernel - 1 (with more rows a call further ones,
    up to those of the last), or, where windows lie at no fixed distance, firsts[r] + k * dilation; a row outside the image is a pointer to
    `pad_elements` constants of `pad_value`. Row sizes are in elements. `counted` and `numbered`: what else the kernel is told (see `Call`).
    """

    input: int
    output: int
    batch: int
    in_rows: int
    in_row: int
    out_rows: int
    out_row: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    pad_value: float
    pad_elements: int
    rows_per_call: int = 1
    counted: bool = False
    upward: bool = False
    firsts: tuple[int, ...] = ()
    numbered: bool = False

    def first(self, row: int) -> int:
        """The first input row that output row `row` of an image reads, which may lie outside of it."""
        return self.firsts[row] if self.firsts else row * self.stride - self.pad

    @property
    def seen(self) -> int:
        """Input rows that one call sees."""
        return self.kernel + (self.rows_per_call - 1) * self.stride

    @property
    def calls(self) -> range:
        """The first output row of each call for an image."""
        return range(0, self.out_rows, self.rows_per_call)

    @property
    def padded(self) -> bool:
        """Whether any call is given a row of padding; a kernel without `pad_elements` keeps to the rows inside."""
        return self.pad_elements > 0 and self.reads_outside

    @property
    def reads_outside(self) -> bool:
        """Whether the window of any call reaches over rows outside the image."""
        far = (self.seen - 1) * self.dilation
        return any(self.first(row) < 0 or self.first(row) + far >= self.in_rows for row in self.calls)


GeometryField = int | float | bool | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """The C++ call of one instruction.

    Without a window:  `et::<function>(geometry, <operand>, ...)`, operands in this order.
    With a window:     `et::<function>(geometry, out_row, rows, <operand>, ...)`, once an output row: `T* out_row`, `const T* const* rows`;
                       behind `rows`, each an int32_t, come the number of the output row in its image where the window is `numbered`, and
                       where it is `counted` how many rows there are.
    `geometry` is the first argument, an object whose members are the fields: int32_t (or a narrower integer that holds its values), float,
    bool, or arrays `const int32_t[N]`.
    `variant` is shown in reports ("portable", "m4f"). `macs` counts padded positions too.
    `overlaps` is the kernel's word on memory: output 0 may share bytes with this operand as long as the operand starts at least so many
    bytes above the output's start (a kernel that says nothing needs them apart). `swept_call` declares it for windowed calls.
    `overlaps_upward` is the same for a windowed call that is swept from the last row to the first: so many bytes above the operand's start
    output 0 must start.
    `multiples`: what a value's place in the arena must be a multiple of, in bytes, beyond what every tensor's is.
    """

    function: str
    header: str
    geometry: Mapping[str, GeometryField]
    operands: tuple[Operand, ...]
    window: Window | None = None
    macs: int = 0
    variant: str = "portable"
    overlaps: Mapping[int, int] = field(default_factory=dict)
    overlaps_upward: Mapping[int, int] = field(default_factory=dict)
    multiples: Mapping[int, int] = field(default_factory=dict)


def swept_call(
    node: Node,
    function: str,
    header: str,
    geometry: Mapping[str, GeometryField],
    window: Window,
    operands: tuple[Operand, ...] = (),
    macs: int = 0,
    variant: str = "portable",
) -> Call:
    """A windowed call that reads of its input only the rows of its windows and writes only its output rows, in any order of the rows, so
    that the output may lie over the input: what a call writes must meet no row that it or a later one reads."""
    sizes = {value.id: value.spec.dtype.itemsize for value in (*node.tensors, *node.outs)}
    in_row, out_row = window.in_row * sizes[window.input], window.out_row * sizes[window.output]
    rows = []  # of each call, over all images: the first and the one past the last that it writes and that it reads
    for image in range(window.batch):
        for row in window.calls:
            read = (window.first(row), window.first(row) + (window.seen - 1) * window.dilation + 1)
            written = (row, min(row + window.rows_per_call, window.out_rows))
            rows.append(
                (
                    *(image * window.out_rows + at for at in written),
                    *(image * window.in_rows + min(max(at, 0), window.in_rows) for at in read),
                )
            )
    down = up = 0
    least, most = window.batch * window.in_rows, 0
    for (begin, _, _, last), (_, end, first, _) in zip(rows, reversed(rows), strict=True):
        least, most = min(least, first), max(most, last)
        down, up = max(down, end * out_row - least * in_row), max(up, most * in_row - begin * out_row)
    overlaps = {window.input: down}
    return Call(function, header, geometry, operands, window, macs, variant, overlaps, {window.input: up})


# ---- what an operator declares --------------------------------------------------------------------------------------------------


class Layout(Enum):
    """Which dim orders a kernel takes. The layout pass makes them so, by conversions where it must."""

    FOLLOW = "follow"
    """Every tensor operand in any dim order (the kernel takes strides). An output of the first operand's rank gets its order."""

    CHANNELS_LAST = "channels_last"
    """The first tensor operand, the first output and a residual are channels last; other operands are contiguous."""

    CONTIGUOUS = "contiguous"
    """All tensors in logical order."""

    VIEW = "view"
    """The output is the first operand's elements in logical order under another shape: no kernel, an address where possible."""

    PERMUTE = "permute"
    """The output is the first operand with permuted dimensions: no kernel, an address with another dim order."""


@dataclass(frozen=True)
class T:
    """A tensor argument of a test case: drawn uniformly from [low, high) by the test, or exactly `values`."""

    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32
    low: float = -2.0
    high: float = 2.0
    values: tuple[float, ...] | None = None
    constant: bool = False
    """The operand is a constant of the program (a weight), not an input."""
    dim_order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Case:
    """Arguments in schema order: `T` for tensors, tuples of `T` for tensor lists, else literals. `note` says what is special about it."""

    args: tuple[Any, ...]
    note: str = ""


_Item = TypeVar("_Item")


class Draw(Protocol):
    """Where drawn cases get their choices from (hypothesis in the tests), so that `op.py` files import nothing."""

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""

    def number(self, low: float, high: float) -> float:
        """A finite float32 in [low, high]."""

    def choice(self, options: Sequence[_Item]) -> _Item: ...

    def flag(self) -> bool: ...


InferredSpec = tuple[DType, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Op:
    """One operator overload that the project can run.

    schema      the out-variant's schema, as PyTorch prints it
    infer       dtype and shape of each output from the operands; raises `node.error(...)` for attribute values that are illegal
    lower       the C++ call for a target; None for views and permutes, which need no code
    dtypes      element types of the first tensor operand that `lower` takes
    reference   the numpy meaning, for constant folding: operands by position (arrays, lists, literals) -> array, or a tuple of them
    layout      which dim orders the kernel takes
    absorbs     epilogue parts the kernel can do: "clamp", "residual"
    clamp       (low, high) where this instruction is nothing but a clamp of its first operand, else None
    inplace     names of operands whose memory output 0 may take over: same size and dim order, element i read before i is written
    alias       byte offset at which output 0 lies inside the first operand as it is now laid out, or None where it must be copied
    parts       for a concatenation: byte offset of each operand inside output 0, or None where it must be copied
    elementwise output i depends on element i of its tensor operands only, which broadcast: chains of such become a table in int8
    carries     names of operands of whose elements the first result consists, moved, chosen or repeated, never computed with: what is so
                for real numbers is so for int8 of one scale, for these are in the same order (a view or a permute carries its first)
    exact       results must be eager PyTorch's bit for bit (movement, comparison); else 2e-6 * magnitude * sqrt(`sum_length`)
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


# ---- finding them ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Library:
    """Every operator by name, and the folders that the C++ compiler needs for `#include "<family>/<header>"`."""

    ops: Mapping[str, Op]
    include_dirs: tuple[Path, ...]
    rules: Mapping[str, Any] = field(default_factory=dict)
    """How float operators between dequantise and quantise are computed in integers (`etexport.quantized.Rule`), by operator name."""

    def find(self, name: str) -> Op | None:
        return self.ops.get(name)


@functools.cache
def load_ops(folders: tuple[Path, ...] | None = None) -> Library:
    """Read every `op.py`. One that cannot be read, and two with the same operator or the same folder name, are errors that name them."""
    folders = folders or kernel_folders()
    families: dict[str, Path] = {}
    ops: dict[str, Op] = {}
    rules: dict[str, Any] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/op.py")):
            other = families.setdefault(path.parent.name, path)
            if other != path:  # its headers would be found in place of these
                raise ModelError(f"{other.parent} has the same name", where=str(path.parent), hint="give the folder a name of its own")
            module = _load(path)
            if not all(isinstance(op, Op) for op in getattr(module, "OPS", (None,))):
                raise ModelError("declares no OPS = [Op(...), ...]", where=str(path), hint="docs/kernels.md says what belongs there")
            for rule in getattr(module, "RULES", ()):
                if rule.op in rules:
                    raise ModelError(f"a second folder has an integer rule for {rule.op}", where=str(path))
                rules[rule.op] = rule
            for op in module.OPS:
                if op.name in ops:
                    raise ModelError(f"{op.name} is declared in {ops[op.name].family} and in {path.parent.name}", where=str(path))
                object.__setattr__(op, "family", path.parent.name)
                ops[op.name] = op
    return Library(ops, folders, rules)


def _load(path: Path) -> Any:
    name = f"etexport_kernels.{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look the module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else next(reversed(lines), None)
        said = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
        raise ModelError(f"the operators cannot be read: {said}", where=f"{path}:{line}" if line else str(path)) from None
    return module


def spec_of(spec: TensorSpec) -> InferredSpec:
    """The part of a spec that `infer` talks about."""
    return spec.dtype, spec.shape
