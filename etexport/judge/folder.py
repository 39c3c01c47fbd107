"""What a build folder holds of a run, to be judged.

A folder `build/<board>/<model>-<quantization>[-size]/` has `memory.json` (from emit), `run.json` and `outputs.npz`
(from device), and in `profile/` or `trace/` those of a run with probes. The program `model.pte` lies elsewhere, with
`model.npz` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from etexport.artifacts.files import Array, opened
from etexport.artifacts.memory import MemoryMap, TensorType, project_in, read_memory
from etexport.artifacts.reference import Reference, first, read_called, read_reference
from etexport.artifacts.runs import RunRecord, image_of, read_call_outputs, read_outputs, read_run, read_sizes
from etexport.artifacts.sized import padded, sizes
from etexport.delegate import library_for
from etexport.errors import MismatchError, ModelError
from etexport.judge.calls import Calls, by_outputs_of, verdict_of_calls, wanted_of
from etexport.judge.compare import Traced, check_form
from etexport.judge.verdict import Evidence, Question, Verdict, by_outputs, verdict, wanted
from etexport.kernel.library import load_ops
from etexport.kernel.sizes import largest, with_symbols
from etexport.program import pte
from etexport.program.model import Method, Program, Role, Source

Trace = Callable[[tuple[int, ...]], Path]
"""Runs these samples (of a program with a state these and no others, in order) on an image with traces, and says in
which folder."""


def question_of(folder: Path, program: Path, reference: Path | None = None) -> Question:
    """The run in `folder`, to be judged; `reference` is the `.npz` beside the program where it is not given.

    Only the samples that were run are compared (`run --samples N` runs the first N). ModelError where a file is missing
    or does not fit.
    """
    expected, outputs = _files(folder, program, reference)
    got, there = read_outputs(outputs), read_sizes(outputs)
    against = first(read_reference(expected), len(got[0]) if got else 0)
    _check_sizes(there, against, "sample", range(len(there)))
    content = pte.read(program.read_bytes())
    return _question(folder, content, content.method(), against, got)


def calls_of(folder: Path, program: Path, reference: Path | None = None) -> Calls | None:
    """The same for a run of calls of methods; None for one of samples."""
    names = read_run(folder).calls if (folder / "run.json").is_file() else ()
    if not names:
        return None
    expected, outputs = _files(folder, program, reference)
    content = pte.read(program.read_bytes())
    methods = {one.name: one for one in content.methods}
    called = {name: [at for at, one in enumerate(names) if one == name] for name in names if name in methods}
    questions = []
    for name, against in read_called(expected, called).items():
        each = read_call_outputs(outputs, against.calls)
        _check_sizes(sizes(each), against, "call", against.calls)
        got = padded(each)
        question = _question(folder, content, methods[name], against, got)
        feeding = _feeding(methods[name], methods.values())
        questions.append(replace(question, feeding=tuple(largest(one, question.library) for one in feeding)))
    return Calls(names, tuple(questions))


def _check_sizes(
    there: Sequence[Sequence[tuple[int, ...]]], against: Reference, what: str, numbers: Sequence[int]
) -> None:
    for number, board, right in zip(numbers, there, against.sizes, strict=True):
        if board != right:
            told, wanted_sizes = (", ".join(str(list(one)) for one in shapes) for shapes in (board, right))
            raise MismatchError(f"{what} {number} has outputs {told} on the board, and {wanted_sizes} in PyTorch")


def _feeding(method: Method, methods: Iterable[Method]) -> tuple[Method, ...]:
    """The others from which a state leads to this one, through whichever methods."""
    found, left = [method], list(methods)
    for one in found:
        more = [other for other in left if other not in found and other.shared & one.shared]
        found += more
        left = [other for other in left if other not in more]
    return tuple(found[1:])


def _files(folder: Path, program: Path, reference: Path | None) -> tuple[Path, Path]:
    """What is expected, and what came."""
    expected, outputs = reference or program.with_suffix(".npz"), folder / "outputs.npz"
    if not expected.is_file():
        raise ModelError(
            "there is nothing to compare with", where=str(expected), hint="`etexport export` writes it beside the .pte"
        )
    if not outputs.is_file():
        raise ModelError("there are no outputs", where=str(outputs), hint="`etexport run` writes them")
    return expected, outputs


def _question(folder: Path, content: Program, method: Method, against: Reference, got: Sequence[Array]) -> Question:
    check_form(got, against.outputs)
    library = library_for(content, load_ops(project_in(folder)))
    sized = with_symbols(method, library)
    method = largest(method, library)
    memory = read_memory(folder) if (folder / "memory.json").is_file() else None
    handles = set() if memory is None else {step.handle for step in memory.steps if step.kind == "call"}
    return Question(
        method=method,
        library=library,
        reference=against,
        got=got,
        keeps_state=any(value.role is Role.STATE for value in method.values.values()),
        rounding="nearest" if memory is None else memory.rounding,
        handles={instruction.handle for instruction in method.instructions} & handles,
        sized=sized if sized.symbols else None,
    )


def judged(question: Question | Calls, folder: Path, trace: Trace | None = None, *, anew: bool = False) -> Verdict:
    """The verdict on the run in `folder`. What runs with traces left there is used where it is of this image and has
    the samples that are needed; else, or `anew`, `trace` makes it. Without `trace`, what cannot be seen is said in
    `missing`."""
    memory = read_memory(folder) if (folder / "memory.json").is_file() else None
    comparison = by_outputs_of(question) if isinstance(question, Calls) else by_outputs(question)
    if memory is None:
        return Verdict(comparison, None, f"there is no {folder / 'memory.json'}, so no operator was computed again")
    if isinstance(question, Calls):
        samples = wanted_of(question, comparison, most_traced(memory))
    else:
        samples = wanted(question, comparison, most_traced(memory))
        if anew and not question.keeps_state and comparison.beyond:
            samples = tuple(sorted({0, *samples}))  # sample 0 tells which instruction is the first that differs
    if not samples:
        return Verdict(comparison)
    made = (
        None if anew else next((one for name in TRACED if covers(one := folder / name, folder, memory, samples)), None)
    )
    if made is None and trace is not None:
        made = trace(samples)
    if made is None:
        return Verdict(comparison, None, "no run with probes is there, so no operator was computed again")
    evidence = read_evidence(made, memory)
    return verdict_of_calls(question, evidence) if isinstance(question, Calls) else verdict(question, evidence)


TRACED = ("profile", "trace")
"""Where runs with traces leave what they saw: the one that also counts every step, and what `validate` makes where that
is not there."""

MOST_TRACED = 32 << 20
"""How many bytes of results the runs of one verdict may stream."""


def most_traced(memory: MemoryMap) -> int:
    """How many samples in a row may be traced."""
    return max(1, MOST_TRACED // max(sum(result.nbytes for step in memory.steps for result in step.results), 1))


def covers(made: Path, folder: Path, memory: MemoryMap, samples: Sequence[int]) -> bool:
    """Is in `made` what runs of these samples left, by the program in `folder`, compiled from what its image there
    is?"""
    if not (made / "run.json").is_file() or not (made / "trace.npz").is_file():
        return False
    run = read_run(made)
    return (
        run.program_hash == memory.program_hash and run.beside == image_of(folder) and set(samples) <= set(run.traced)
    )


def read_evidence(made: Path, memory: MemoryMap) -> Evidence:
    """What a run with traces left: `run.json` says of which samples, `outputs.npz` has their outputs, `trace.npz` the
    results of steps."""
    run = read_run(made)
    samples = run.traced
    if run.calls:
        each = zip(samples, read_call_outputs(made / "outputs.npz", samples), strict=True)
        with opened(made / "trace.npz") as arrays:
            return Evidence({call: read_trace(arrays, memory, call) for call in samples}, dict(each))
    outputs = read_outputs(made / "outputs.npz")
    if any(len(one) != len(samples) for one in outputs):
        raise ModelError(
            "is not of the samples that run.json names", where=str(made / "outputs.npz"), hint="run it again"
        )
    by_sample = {sample: [one[at] for one in outputs] for at, sample in enumerate(samples)}
    with opened(made / "trace.npz") as arrays:
        return Evidence({sample: read_trace(arrays, memory, sample) for sample in samples}, by_sample)


def profiled(folder: Path, memory: MemoryMap) -> RunRecord | None:
    """The run with probes; None where there was none, or it was of another program."""
    for name in TRACED:
        if (folder / name / "run.json").is_file():
            run = read_run(folder / name)
            if run.program_hash == memory.program_hash:
                return run
    return None


def read_trace(arrays: Mapping[str, Array], memory: MemoryMap, sample: int) -> tuple[Traced, ...]:
    """The results of one sample that a run with traces left, of each execution of a step: arrays
    `step_<n>_<result>_of_<sample>` of bytes, laid out as `memory.json` says."""
    found = []
    for step in memory.steps:
        results = [_result(arrays, f"step_{step.step}_{at}_of_{sample}", one) for at, one in enumerate(step.results)]
        if not results or results[0] is None:
            continue
        file, _, line = step.source.rpartition(":")
        source = Source(file, int(line), step.code) if file else None
        for at, data in enumerate(results[0]):
            others = (None if one is None or at >= len(one) else one[at] for one in results[1:])
            order = tuple(step.results[0].dim_order)
            found.append(Traced(step.handle, step.name, source, data, tuple(others), order))
    return tuple(found)


def _result(arrays: Mapping[str, Array], name: str, described: TensorType) -> list[Array] | None:
    """What each execution gave."""
    if name not in arrays:
        return None
    order = described.dim_order
    shape = [described.shape[dim] for dim in order]
    content, size = arrays[name].tobytes(), described.nbytes
    if not content or len(content) % max(size, 1):
        raise ModelError(
            f"{name} has {len(content)} bytes where memory.json has {shape} of {described.dtype}", hint="run it again"
        )
    laid_out = (
        np.frombuffer(content[at : at + size], described.dtype).reshape(shape) for at in range(0, len(content), size)
    )
    # keeps a shape of ()
    return [np.array(np.transpose(one, np.argsort(order)) if order else one, order="C") for one in laid_out]
