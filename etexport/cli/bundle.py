"""A bundled program (.bpte) of ExecuTorch taken apart, program and samples, or put together from these."""

from __future__ import annotations

import argparse
from pathlib import Path

from etexport.stages.origin import existing

EXAMPLE = "etexport bundle net.bpte -o net.pte"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="X.bpte|X.pte", help="of a .pte, X.npz beside it has the cases")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="X.pte|X.bpte", help="X.npz comes beside a .pte"
    )


def main(args: argparse.Namespace) -> int:
    from etexport.artifacts.files import npz, write_whole
    from etexport.artifacts.reference import read_reference
    from etexport.errors import ModelError, ProgramError
    from etexport.program import bundled, pte

    data = existing(args.program).read_bytes()
    if {args.program.suffix, args.out.suffix} != {".pte", ".bpte"}:
        raise ModelError("a .bpte becomes a .pte, or a .pte a .bpte", where=str(args.out), hint=EXAMPLE)
    if args.out.suffix == ".bpte":
        method = pte.load(args.program).method()
        reference = read_reference(existing(args.program.with_suffix(".npz")))
        cases = [
            bundled.Case(tuple(one[at] for one in reference.inputs), tuple(one[at] for one in reference.outputs))
            for at in range(reference.samples)
        ]
        write_whole(args.out, bundled.write(bundled.Bundle(data, {method.name: tuple(cases)})))
        print(f"{args.out}: {len(cases)} cases")
        return 0
    try:
        bundle = bundled.read(data)
        method = pte.read(bundle.program).method()
        cases = list(bundle.cases.get(method.name, ()))
        if not cases:
            raise ProgramError(f"has no cases for the method {method.name}")
        inputs, outputs = bundled.stacked(cases)
    except ProgramError as error:
        raise ProgramError(error.what, where=str(args.program), hint=error.hint) from None
    arrays = {f"input_{at}": one for at, one in enumerate(inputs)}
    arrays |= {f"output_{at}": one for at, one in enumerate(outputs)}
    write_whole(args.out.with_suffix(".npz"), npz(arrays))
    write_whole(args.out, bundle.program)
    print(f"{args.out}: {len(cases)} cases")
    return 0
