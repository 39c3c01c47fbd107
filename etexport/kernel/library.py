"""How kernel folders are found.

A folder `kernels/<family>/` holds `op.py` with `OPS = [Op(...)]`, `INT8` and `RULES` where it can be quantised,
`WEIGHTS` where it reads weights in few bits, further modules and the C++ headers that they name. Nothing registers
itself and there is no list: `load_ops()` reads the folders, and those of installed packages through the entry point
group `etexport.kernels` (each entry is a module or package whose folder holds kernel folders). A family is the package
`etexport_kernels.<family>`: so its modules find one another, and another family's packing.
"""

from __future__ import annotations

import functools
import importlib
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from etexport.errors import ModelError
from etexport.kernel.int8 import Int8
from etexport.kernel.op import Op
from etexport.resources import kernel_folders

_PACKAGE = "etexport_kernels"


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

    def find(self, name: str) -> Op | None:
        return self.ops.get(name)


@functools.cache
def load_ops(folders: tuple[Path, ...] | None = None) -> Library:
    """Read every `op.py`. One that cannot be read, and two with the same operator or the same folder name, are errors
    that name them."""
    folders = folders or kernel_folders()
    families: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/op.py")):
            other = families.setdefault(path.parent.name, path)
            if other != path:  # its headers would be found in place of these
                raise ModelError(
                    f"{other.parent} has the same name",
                    where=str(path.parent),
                    hint="give the folder a name of its own",
                )
    _as_packages(families)
    ops: dict[str, Op] = {}
    rules: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    int8: dict[str, Int8] = {}
    for family, path in families.items():
        module = _load(family, path)
        if not all(isinstance(op, Op) for op in getattr(module, "OPS", (None,))):
            raise ModelError(
                "declares no OPS = [Op(...), ...]", where=str(path), hint="docs/kernels.md says what belongs there"
            )
        for rule in getattr(module, "RULES", ()):
            if rule.op in rules:
                raise ModelError(f"a second folder has an integer rule for {rule.op}", where=str(path))
            rules[rule.op] = rule
        for reader in getattr(module, "WEIGHTS", ()):
            if reader.op in weights:
                raise ModelError(f"a second folder keeps the weights of {reader.op}", where=str(path))
            weights[reader.op] = reader
        if not all(isinstance(one, Int8) for one in getattr(module, "INT8", ())):
            raise ModelError("INT8 holds no Int8(...)", where=str(path), hint="docs/kernels.md says what belongs there")
        for said in getattr(module, "INT8", ()):
            for name in said.operators:
                if name in int8:
                    raise ModelError(f"a second folder says how {name} is quantised", where=str(path))
                int8[name] = said
        for op in module.OPS:
            if op.name in ops:
                raise ModelError(f"{op.name} is declared in {ops[op.name].family} and in {family}", where=str(path))
            object.__setattr__(op, "family", family)
            ops[op.name] = op
    return Library(ops, folders, rules, weights, int8)


def _as_packages(families: Mapping[str, Path]) -> None:
    """What was loaded under a family's name from other folders is forgotten."""
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    for name, folders in {
        _PACKAGE: [],
        **{f"{_PACKAGE}.{family}": [str(path.parent)] for family, path in families.items()},
    }.items():
        package = ModuleType(name)
        package.__path__ = folders
        sys.modules[name] = package


def _load(family: str, path: Path) -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.{family}.op")
    except Exception as error:
        frames = [(error.filename, error.lineno)] if isinstance(error, SyntaxError) else []
        frames += [(frame.filename, frame.lineno) for frame in reversed(traceback.extract_tb(error.__traceback__))]
        where = next(
            (f"{file}:{line}" for file, line in frames if file and Path(file).parent == path.parent), str(path)
        )
        said = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
        raise ModelError(f"the operators cannot be read: {said}", where=where) from None
