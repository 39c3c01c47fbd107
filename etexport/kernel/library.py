"""How kernel folders are found.

A folder `kernels/<family>/` holds `op.py` with `OPS = [Op(...)]`, `INT8` and `RULES` where it can be quantised,
`WEIGHTS` where it reads weights in few bits, `REPLACES` where it has a kernel for what others declare, further modules
and the C++ headers that they name. Nothing registers itself and there is no list: `load_ops()` reads the folders, those
of installed packages through the entry point group `etexport.kernels` (each entry is a module or package whose folder
holds kernel folders), and those of a model's own project. A family is the package `etexport_kernels.<family>`: so its
modules find one another, and another family's packing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, TypeVar

from etexport.errors import EtError, ModelError
from etexport.kernel.call import Call, Target
from etexport.kernel.folders import as_packages, by_name, line_in, read
from etexport.kernel.int8 import Int8
from etexport.kernel.node import Node
from etexport.kernel.op import Op, Replacement
from etexport.project import NOTHING, Project
from etexport.resources import kernel_folders, root

_PACKAGE = "etexport_kernels"
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Library:
    """Every operator by name, and the folders that the C++ compiler needs for `#include "<family>/<header>"`."""

    ops: Mapping[str, Op]
    include_dirs: tuple[Path, ...]
    rules: Mapping[str, Any] = field(default_factory=dict)
    """How float operators between dequantise and quantise are computed in integers (`etexport.kernel.quantized.Rule`),
    by operator name."""
    weights: Mapping[str, Any] = field(default_factory=dict)
    """Which float operators read weights as they are stored (`etexport.kernel.weights.Weights`), by operator name."""
    int8: Mapping[str, Int8] = field(default_factory=dict)
    """What is said of how operators of a graph are quantised, by their names there."""
    project: Project = NOTHING
    """Whose folders and passes are among these."""

    def find(self, name: str) -> Op | None:
        return self.ops.get(name)


@functools.cache
def load_ops(project: Project = NOTHING) -> Library:
    """Read every `op.py`. One that cannot be read, and two with the same operator or the same folder name, are errors
    that name them."""
    return library_of(kernel_folders(project), project)


def library_of(folders: tuple[Path, ...], project: Project = NOTHING) -> Library:
    """As `load_ops`, of these folders."""
    families = by_name(folders, "op.py")
    as_packages(_PACKAGE, families)
    ops: dict[str, Op] = {}
    rules: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    int8: dict[str, Int8] = {}
    replaced: list[tuple[Path, Replacement]] = []
    for family, path in families.items():
        module: Any = read(_PACKAGE, path, "the operators")
        _check_lists(module, path)
        for rule in getattr(module, "RULES", ()):
            if rule.op in rules:
                raise ModelError(f"a second folder has an integer rule for {rule.op}", where=str(path))
            rules[rule.op] = rule
        for reader in getattr(module, "WEIGHTS", ()):
            if reader.op in weights:
                raise ModelError(f"a second folder keeps the weights of {reader.op}", where=str(path))
            weights[reader.op] = reader
        for said in getattr(module, "INT8", ()):
            for name in said.operators:
                if name in int8:
                    raise ModelError(f"a second folder says how {name} is quantised", where=str(path))
                int8[name] = said
        for op in getattr(module, "OPS", ()):
            if op.name in ops:
                raise ModelError(f"{op.name} is declared in {ops[op.name].family} and in {family}", where=str(path))
            object.__setattr__(op, "family", family)
            ops[op.name] = op if path.is_relative_to(root() / "kernels") else _guarded(op, path)
        replaced += [(path, one) for one in getattr(module, "REPLACES", ())]
    for path, one in replaced:
        ops[one.op] = _with(one, ops.get(one.op), path)
    return Library(ops, folders, rules, weights, int8, project)


def _check_lists(module: ModuleType, path: Path) -> None:
    lists = {"OPS": ("declares no OPS = [Op(...), ...]", Op), "INT8": ("INT8 holds no Int8(...)", Int8)}
    lists["REPLACES"] = ("REPLACES holds no Replacement(...)", Replacement)
    for name, (what, kind) in lists.items():
        default = () if name != "OPS" or hasattr(module, "REPLACES") else (None,)
        if not all(isinstance(one, kind) for one in getattr(module, name, default)):
            raise ModelError(what, where=str(path), hint="docs/kernels.md says what belongs there")


def _with(new: Replacement, op: Op | None, path: Path) -> Op:
    """The operator with another kernel where that is wanted."""
    if op is None or op.lower is None:
        hint = "`etexport ops` lists the operators that have one"
        raise ModelError(f"replaces the kernel of {new.op}, which has none", where=str(path), hint=hint)
    before, theirs = op.lower, _telling(new.lower, path, (Call, NoneType))

    def lower(node: Node, target: Target) -> Call:
        call = theirs(node, target) if new.fits(node, target) else None
        if call is None:
            return before(node, target)
        return call if "/" in call.header else replace(call, header=f"{path.parent.name}/{call.header}")

    return replace(op, lower=lower)


def _guarded(op: Op, path: Path) -> Op:
    """An operator of others: what goes wrong in its functions is told with their line."""
    lower = None if op.lower is None else _telling(op.lower, path, Call)
    return replace(op, infer=_telling(op.infer, path, tuple), lower=lower)


def _telling(function: Callable[..., Made], path: Path, kind: type | tuple[type, ...]) -> Callable[..., Made]:
    """The function; a ModelError where it fails or gives no `kind`."""

    @functools.wraps(function)
    def told(node: Node, *others: Any) -> Made:
        try:
            made = function(node, *others)
        except EtError:
            raise  # what it has to say about the program
        except Exception as error:
            what = f"fails on {node.instruction.op} ({node.instruction.where}): {type(error).__name__}: {error}"
            raise ModelError(what, where=line_in(path, error)) from error
        if not isinstance(made, kind):
            what = f"{function.__name__} gives a {type(made).__name__} for {node.instruction.op}"
            raise ModelError(what, where=str(path), hint="docs/kernels.md says what belongs there")
        return made

    return told
