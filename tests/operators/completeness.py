"""What a kernel folder must have, said of those that lack it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from etexport.kernel.call import Call, Target
from etexport.kernel.library import Library
from etexport.kernel.op import Layout, Op

from .batch import batch
from .cases import documented
from .oracle import in_torch, schema_of

TARGETS = tuple(
    Target(frozenset(features), optimize)
    for features in ({"host"}, {"arm", "thumb2", "dsp", "fpu"}, {"arm", "thumb2"}, {"riscv", "fpu"})
    for optimize in ("speed", "size")
)


def complaints(library: Library) -> list[str]:
    """What is missing or wrong in the folders of a library, each with the file to look at."""
    found = [text for op in library.ops.values() for text in _of_op(op, library.include_dirs)]
    families = {op.family for op in library.ops.values()}
    for folder in library.include_dirs:
        for family in sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
        ):
            # one that was moved leaves __pycache__
            if family.name not in families and any(path.is_file() for path in family.iterdir()):
                found.append(f"{family.name}: no op.py declares an operator")
    return found


def _of_op(op: Op, folders: tuple[Path, ...]) -> Iterator[str]:
    where = f"{op.family}/op.py: {op.name}"
    if op.name.startswith("quantized_decomposed::"):
        return  # marks in a program, read by the target side; nothing ever computes them
    if not op.cases:
        yield f"{where} has no cases"
    if op.draw is None:
        yield f"{where} has no draw"
    if in_torch(op.name) and op.name.startswith("aten::") and op.schema != schema_of(op.name):
        yield f"{where}: the schema is {op.schema}, PyTorch has {schema_of(op.name)}"
    if not in_torch(op.name) and op.reference is None:
        yield f"{where}: PyTorch has no such operator, and there is no reference"
    if op.lower is None and op.reference is None and op.layout not in (Layout.VIEW, Layout.PERMUTE):
        yield f"{where} has neither a kernel nor a reference"
    if op.lower is not None and op.cases:
        for call in calls(op):
            if not any(
                (folder / call.header).is_file() or (folder / op.family / call.header).is_file() for folder in folders
            ):
                yield f"{where}: there is no header {call.header}"


def calls(op: Op) -> list[Call]:
    """The calls of the documented cases on every core, one a header."""
    assert op.lower is not None
    calls = [op.lower(node, target) for node in batch(documented(op)).nodes for target in TARGETS]
    return list({call.header: call for call in calls}.values())
