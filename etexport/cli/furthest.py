"""The samples that a verdict on a run looks into, as a JSON list for `run --probes --only`: of a quantised program those furthest off."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from etexport.cli.options import folder_arguments
from etexport.stages.origin import alone_there, existing, program_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="X.json", help="where to write (default: furthest.json in DIR)")


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import read_json, write_whole
    from etexport.artifacts.memory import quantization_of
    from etexport.judge.folder import most_traced, question_of
    from etexport.judge.verdict import by_outputs, wanted

    folder: Path = args.folder
    with alone_there(folder):
        memory = read_json(folder / "memory.json", "`etexport build` writes it")
        samples: tuple[int, ...] = (0,)  # an image of floats has no traces
        if quantization_of(memory) == "int8":
            program = program_of(folder, args.program)
            question = question_of(folder, program, existing(args.reference or program.with_suffix(".npz")))
            samples = wanted(question, by_outputs(question), most_traced(memory)) or samples
        write_whole(args.out or folder / "furthest.json", (json.dumps({"samples": samples}) + "\n").encode())
    return 0
