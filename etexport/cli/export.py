"""Model scripts to `model.pte` and `model.npz`: capture, lower, write; several scripts share one start of torch."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", nargs="+", type=Path, help="a model script, or a saved .pt2")
    parser.add_argument("-o", "--out", action="append", type=Path, required=True, metavar="X.pte", help="once for each script, in their order")
    parser.add_argument("--weights", action="append", default=[], metavar="SCRIPT=FILE", help="trained weights (.npz) of a script that has train()")
    parser.add_argument("--stock", action="store_true", help="refuse what the stock ExecuTorch runtime cannot load, with the reason")


def main(args: argparse.Namespace) -> int:
    from etexport.errors import EtError, ModelError, raise_all

    if len(args.script) != len(args.out):
        raise ModelError(f"{len(args.script)} scripts and {len(args.out)} outputs", hint="give -o once for each script")
    weights = dict(pair.split("=", 1) for pair in args.weights if "=" in pair)
    from etexport.frontend import export

    errors: list[EtError] = []
    for script, out in zip(args.script, args.out, strict=True):
        try:
            found = weights.get(str(script))
            export(script, out, stock=args.stock, weights=Path(found) if found else None)
        except EtError as error:  # one that fails does not stop the others
            errors.append(error)
    raise_all(errors)
    return 0
