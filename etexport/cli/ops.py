"""List the operators that have a kernel, or say which a program uses."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from etexport.cli.options import project_arguments, project_given

EXAMPLE = "etexport ops model.pte"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", nargs="?", type=Path, metavar="X.pte", help="only the operators of this program")
    parser.add_argument("--json", action="store_true")
    project_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from etexport.delegate import library_for
    from etexport.kernel.library import load_ops
    from etexport.stages.origin import existing, project_of

    project = project_given(args)
    library = load_ops(project if args.program is None else project_of(existing(args.program), project))
    if args.program is None:
        used = dict.fromkeys(library.ops, 0)
    else:
        from etexport.program import pte

        program = pte.load(args.program)
        library = library_for(program, library)
        used = dict(Counter(instruction.op for method in program.methods for instruction in method.instructions))
    rows = []
    for name in sorted(used):
        op = library.find(name)
        dtypes = [str(dtype.numpy) for dtype in op.dtypes] if op else []
        rows.append(
            {
                "name": name,
                "family": op.family if op else None,
                "dtypes": dtypes,
                "schema": op.schema if op else None,
                "used": used[name],
            }
        )
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        times = f"{row['used']:4}x  " if args.program else ""
        room = "backends" if str(row["name"]).startswith("delegate::") else "kernels"
        where = f"{room}/{row['family']}" if row["family"] else "no kernel"
        print(f"{times}{row['name']:{width}}  {where:22}  {', '.join(row['dtypes'])}")  # type: ignore[arg-type]
    return 0
