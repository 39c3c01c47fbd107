"""The settings of int8 that lose least: each combination on samples held out, the layers that hurt most, a file of the
best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etexport.frontend.quantize.search import Found

SHOWN = 8
"""Layers in the table."""


EXAMPLE = "etexport quantize model.py --target 30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", type=Path, help="a model script with calibration()")
    parser.add_argument("--weights", type=Path, metavar="X.npz", help="trained weights for model(weights)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="X.toml", help="default: SCRIPT.quantize.toml beside it, where export looks"
    )
    parser.add_argument(
        "--target", type=float, default=30.0, metavar="DB", help="layers are proposed for float until this is met (30)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show, and write nothing")


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.frontend.exporting import search_settings
    from etexport.frontend.quantize.layers import decibels
    from etexport.frontend.quantize.settings import text

    found, beside = search_settings(
        args.script, args.weights, args.target, lambda what: print(f"try {what}", flush=True)
    )
    _show(found)
    out = args.out or beside
    said = text(
        found.best,
        (
            f"by etexport quantize {args.script.name}: {decibels(found.verified.snr_db)} on {found.held_out} held-out "
            "samples",
        ),
    )
    if args.dry_run:
        print(said, end="")
        return 0
    write_whole(out, said.encode())
    print(f"{out}: " + ("export reads it" if args.out is None else f"export reads {beside}"))
    return 0


def _show(found: Found) -> None:
    from rich.console import Console
    from rich.table import Table

    from etexport.frontend.quantize.layers import decibels

    judged = (
        f"{found.held_out} held-out samples" if found.held_out else "the calibration samples (too few to hold any out)"
    )
    table = Table("layers", "ranges", "biases", "dB", title=f"int8 against float on {judged}")
    labels = found.right_in_float is not None
    if labels:
        table.add_column(f"right of {found.labelled} (float {found.right_in_float})")
    for row in found.rows:
        say = row.settings
        cells = [
            "equalised" if say.equalize else "as they are",
            str(say.ranges),
            "corrected" if say.correct_bias else "as they are",
        ]
        is_best = row.settings == found.best
        table.add_row(
            *cells, decibels(row.snr_db), *([str(row.right)] if labels else []), style="bold" if is_best else None
        )
    layers = Table("kept in float alone", "dB", title="what hurts most")
    for layer in found.layers[:SHOWN]:
        layers.add_row(layer.name, decibels(layer.figure.snr_db))
    console = Console(highlight=False)
    console.print(table)
    if found.layers:
        console.print(layers)
    kept = f", in float: {', '.join(found.best.keep_float)}" if found.best.keep_float else ""
    console.print(
        f"recommended: layers {'equalised' if found.best.equalize else 'as they are'}, ranges by {found.best.ranges}, "
        "biases "
        f"{'corrected' if found.best.correct_bias else 'as they are'}{kept}: {decibels(found.verified.snr_db)}"
    )
