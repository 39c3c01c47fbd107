"""Model scripts to `model.pte` and `model.npz`: capture, lower, write; several scripts share one start of torch. Of
int8 it says what that costs against float."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etexport.cli.options import decibels, depfile_argument, project_arguments, project_given
from etexport.stages.origin import QUANTIZATIONS

EXAMPLE = "etexport export model.py -o build/model/gesture-int8/model.pte --quantize int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "script",
        nargs="+",
        type=Path,
        help="a model script or a saved .pt2; an .npz behind a script is its trained weights",
    )
    parser.add_argument(
        "-o",
        "--out",
        nargs="+",
        action="extend",
        type=Path,
        required=True,
        metavar="X.pte",
        help="one for each script, in order; X.npz comes beside it",
    )
    parser.add_argument("--quantize", choices=QUANTIZATIONS, help="instead of what the scripts say")
    parser.add_argument(
        "--fail-below", type=decibels, metavar="DB", help="exit code 2, once the files are written, where an output of "
        "a quantised network has less signal to noise than this against the float network, or where that is not known"
    )  # fmt: skip
    depfile_argument(parser, "each X.pte")
    project_arguments(parser)
    parser.add_argument(
        "--stock", action="store_true", help="refuse what the stock ExecuTorch runtime cannot load, with the reason"
    )


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import write_whole
    from etexport.errors import EtError, ModelError, raise_all
    from etexport.project import beside, joined
    from etexport.script_files import depfile, local_files

    jobs = _jobs(args.script)
    outs = [out for out in args.out if out.suffix != ".npz"]
    if len(jobs) != len(outs):
        raise ModelError(f"{len(jobs)} scripts and {len(outs)} outputs", hint="give -o one name for each script")
    folders = [out for out in outs if out.is_dir()]
    raise_all(
        [
            ModelError("is a folder, a file belongs there", where=str(out), hint=f"-o {out / 'model.pte'}")
            for out in folders
        ]
    )
    from etexport.frontend import export
    from etexport.stages.check import check_buildable

    errors: list[EtError] = []
    project = project_given(args)
    for (script, weights), out in zip(jobs, outs, strict=True):
        print(f"export {script}", flush=True)
        try:
            export(
                script, out, stock=args.stock, weights=weights, quantize=args.quantize, check=check_buildable,
                project=project,
            )  # fmt: skip
            _tell_cost(script, out, args.fail_below)
        except EtError as error:  # one that fails does not stop the others
            errors.append(error)
    raise_all(errors)
    if args.depfile is not None:
        made = [([out, out.with_suffix(".npz")], script) for (script, _), out in zip(jobs, outs, strict=True)]
        rules = [
            depfile(targets, [script, *local_files(script, Path()), *joined(beside(script), project).declarations])
            for targets, script in made
        ]
        write_whole(args.depfile, "".join(rules).encode())
    return 0


def _tell_cost(script: Path, out: Path, at_least_db: float | None) -> None:
    """Of a quantised network, what it loses against float on samples that it was not calibrated with: MismatchError
    below `at_least_db`."""
    from etexport.artifacts.reference import read_reference
    from etexport.judge.against_float import require_signal, signal_line, warning
    from etexport.judge.compare import converted_against_float
    from etexport.program import pte
    from etexport.report.quality import quality, with_sources

    samples = out.with_suffix(".npz")
    program, reference = pte.load(out), read_reference(samples)
    every = (one.op for method in program.methods for one in method.instructions)
    if not reference.float_outputs and not any(op.startswith("quantized_decomposed::") for op in every):
        return
    found, missing = converted_against_float(reference)
    word = reference.by.removeprefix("PyTorch in ") if reference.float_outputs else "quantised"
    print(f"{out}: {word}: {signal_line(found, missing)}", flush=True)
    lost = warning(found, with_sources(quality(samples), program.method()))
    if lost:
        print(f"warning: {script}: {lost}", file=sys.stderr)
    if at_least_db is not None:
        hint = f"`etexport quantize {script}` tries what helps, docs/quantization.md explains it; the files are written"
        require_signal(found, missing, at_least_db, str(script), hint)


def _jobs(given: list[Path]) -> list[tuple[Path, Path | None]]:
    """Each script with the weights that stand behind it."""
    jobs: list[tuple[Path, Path | None]] = []
    for path in given:
        if path.suffix == ".npz" and jobs:
            jobs[-1] = (jobs[-1][0], path)
        else:
            jobs.append((path, None))
    return jobs
