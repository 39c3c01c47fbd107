"""Model scripts become `model.pte` and `model.npz`. Importing torch costs seconds, so several scripts go through one
process."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from etexport.alone import alone_in
from etexport.delegate import delegated, library_for
from etexport.errors import EtError, ModelError, raise_all
from etexport.frontend.alone import alone
from etexport.frontend.calls import call_arrays, calls_of, check_calls_repeat, eager_calls
from etexport.frontend.capture import capture, control_of, dry_run
from etexport.frontend.collector import nothing_collected
from etexport.frontend.lower import Stored, lower, mutated
from etexport.frontend.mistakes import explain
from etexport.frontend.naming import numbered
from etexport.frontend.quantize import (
    Converted,
    converted,
    is_prepared,
    is_quantized,
    quantized,
    quiet,
    settings,
    subject_of,
)
from etexport.frontend.quantize.boundary import stored, without_boundary, without_scales
from etexport.frontend.quantize.declared import known
from etexport.frontend.quantize.doubts import Rows, doubts
from etexport.frontend.quantize.few_bits import STORED, in_few_bits
from etexport.frontend.quantize.layers import Accept, Bisected, Figure, decibels
from etexport.frontend.quantize.quality import Activation, measured, without_observers
from etexport.frontend.quantize.reasons import ALONE, noted
from etexport.frontend.quantize.settings import Settings
from etexport.frontend.repeatable import check_repeats
from etexport.frontend.samples import (
    Samples,
    calibration_of,
    check_classes,
    check_labels,
    eager_outputs,
    eager_runs,
    is_sized,
    npz_bytes,
    samples_of,
    sized_calibration,
    sized_samples,
)
from etexport.frontend.script import Network, Script, Tensors, of_network, opened, trained, unchanged_torch
from etexport.frontend.sources import source_within
from etexport.frontend.trace import trace
from etexport.kernel import supported
from etexport.kernel.library import Library, load_ops
from etexport.passes import pipeline
from etexport.program.interface import literals, size_texts
from etexport.program.model import Array, Method, Program, Role, TensorSpec
from etexport.program.operators import DEQUANTIZE, QUANTIZE
from etexport.program.pte import write
from etexport.project import NOTHING, Project, beside, joined

REPEATED = 3
"""Samples that the model has to give the same for when it is asked again."""

if TYPE_CHECKING:
    from etexport.frontend.quantize.search import Found
    from etexport.frontend.quantize.variants import Trial

Check = Callable[[bytes, Library], None]
"""Sees a `.pte` before it is written, and the operators that were known."""

STOCK_NAMESPACES = ("aten", "dim_order_ops", "executorch_prim", "executorch", "quantized_decomposed", "cortex_m")


def export(
    script: Path, out: Path, *, stock: bool = False, weights: Path | None = None, quantize: str | None = None,
    check: Check | None = None, inputs: Sequence[Array] | None = None, project: Project = NOTHING,
    in_float: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Write `out` (a `.pte`) and the `.npz` of the same name beside it; both appear whole or not at all.

    `script` is a model script or a saved `.pt2`; `weights` an `.npz` for `model(weights)`. With `stock`, operators that
    ExecuTorch lacks are refused. `quantize` overrules the script's word. `check` sees the `.pte`
    before it is written, and raises what is to be raised in its place. `in_float` stays in float beside what the script
    keeps, in place of what it accepts. `inputs`, samples first, take the place of what
    the script's `samples()` gives: then the `.npz` says what PyTorch makes of these. ModelError, or `Errors` of all
    unsupported operators, each with node, line of the script and a hint. `project` adds kernels, passes and delegates
    to those beside the script.
    """
    out = out.absolute()

    def made() -> None:
        with opened(script, None if weights is None else _read_weights(weights), quantize) as opened_script:
            given = (
                opened_script
                if inputs is None
                else replace(opened_script, samples=tuple(map(torch.from_numpy, inputs)))
            )
            if in_float is not None:
                given = replace(given, keep_float=(*given.keep_float, *in_float), accept=None)
            _export(given, out, stock, check, joined(beside(script.absolute()), project))

    _warm()
    if quantize == "int8" or (quantize is None and script.suffix == ".py" and b"int8" in _content(script)):
        _warm_int8()
    alone(made, script)


def export_network(
    network: Network,
    example_inputs: Tensors,
    out: Path,
    *,
    said: Mapping[str, Any],
    check: Check | None = None,
    project: Project = NOTHING,
) -> None:
    """As `export`, of a network that is there already, in this process: it is copied, and nothing of it or of torch is
    changed.

    `said` has what a script would say beside `model()`: `quantize`, `calibration`, `samples`, `keep_float`, `int8_io`,
    `channels_last`, `min_snr_db`, the functions as what they would return."""
    with of_network(network, example_inputs, said) as script:
        _export(script, out.absolute(), False, check, project)


def _export(script: Script, out: Path, stock: bool, check: Check | None, project: Project) -> None:
    library = load_ops(_chosen(project, script))
    with known(library):
        made = _made_of_methods if script.methods else _made
        program, arrays = made(script, library, stock)
    content = write(program)
    if check is not None:
        check(content, library)
    arrays |= {name: np.array(paths, np.str_) for name, paths in library.project.relative_to(out.parent).items()}
    if script.memory_rules:
        arrays["memory_rules"] = np.array(script.memory_rules, np.str_)
    _write_all({out: content, out.with_suffix(".npz"): npz_bytes(arrays)})


def _chosen(project: Project, script: Script) -> Project:
    """The passes that the script names, in its order; all where it names none."""
    if script.passes is None:
        return project
    found = {path.stem: path for path in project.passes}
    for name in script.passes:
        if name not in found:
            hint = f"there are: {', '.join(sorted(found))}" if found else "passes/ beside the script has none"
            raise ModelError(f"passes: there is no {name}", where=str(script.path), hint=hint)
    return replace(project, passes=tuple(found[name] for name in script.passes))


@functools.cache
def _warm() -> None:
    """Have what torch imports and makes at the first export done before the process is copied, not in each copy."""
    script = Script(Path("warm.py"), torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    with nothing_collected(), unchanged_torch(), contextlib.suppress(Exception):
        lower(capture(script), script, load_ops())


@functools.cache
def _warm_int8() -> None:
    with nothing_collected(), unchanged_torch(), contextlib.suppress(Exception):
        quantized(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), [(torch.ones(1, 2),)])


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def export_many(jobs: Iterable[tuple[Path, Path]], *, stock: bool = False, quantize: str | None = None) -> None:
    """Export each (script, out). One that fails does not stop the others; all errors come together at the end."""
    errors: list[EtError] = []
    for script, out in jobs:
        try:
            export(script, out, stock=stock, quantize=quantize)
        except EtError as error:
            errors.append(error)
    raise_all(errors)


def train(script: Path, out: Path) -> None:
    """Run the script's `train()` and write the weights that it gives as an `.npz`, for `export(..., weights=out)`."""
    out = out.absolute()
    alone(lambda: _write_all({out: npz_bytes(trained(script))}), script)


def _read_weights(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise ModelError("no such file", where=str(path), hint="etexport train SCRIPT -o WEIGHTS.npz makes it")
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _made_sized(script: Script, library: Library, stock: bool) -> tuple[Program, dict[str, Array]]:
    """As `_made`, of a network with sizes that are known at run time. The passes need these, so they come later."""
    if script.quantize not in ("float32", "int8"):
        what = f"{script.quantize} with sizes known at run time cannot be built"
        hint = 'quantize = "int8" or "float32", or a program for each size'
        raise ModelError(what, where=str(script.path), hint=hint)
    exported = capture(script, stock=stock)
    lowered = lower(exported, script, library)
    samples = sized_samples(script, lowered.program.method())
    original, converted = script, None
    calibration: tuple[tuple[torch.Tensor, ...], ...] = ()
    if script.quantize == "int8" and not _is_quantized(script):
        if script.calibration is not None:
            calibration = sized_calibration(script, lowered.program.method())
        converted = _converted(script, calibration)
    if converted is not None:
        if (control := control_of(exported)) is not None:
            raise _no_control(script, control)
        script = replace(script, model=converted.model)
        exported = capture(script, stock=stock)
        if not is_quantized(exported.graph):
            _in_float(script, exported)
            converted = None
        lowered = lower(exported, script, library)
    program, nodes = numbered(lowered.program, lowered)
    supported.check(pipeline.run(program, library), library)
    if stock:
        _refuse_own_operators(program)
    if script.int8_io and (converted is not None or _is_quantized(script)):
        program = _with_int8_io(program, script)
    method = program.method()
    arrays = _sized_arrays(method, samples.inputs, eager_runs(script, samples))
    arrays["origin"] = np.array(samples.origin)
    if converted is not None:
        assert converted.observed is not None
        given = None if original.samples is None else list(zip(*samples.inputs, strict=True))
        arrays |= _warnings(original, list(zip(*calibration, strict=True)), given, method)
        floats = eager_runs(original, samples)
        arrays |= {
            f"run_{at}_float_output_{number}": one for at, run in enumerate(floats) for number, one in enumerate(run)
        }
        arrays["calibrated"] = _calibrated(calibration, samples.inputs)
        arrays |= _quality_arrays(method, nodes, measured(converted.observed, exported, samples.inputs))
        arrays |= _reasons(exported, nodes)
        arrays |= _step_arrays(trace(exported, samples.inputs[0]), nodes)
    if script.min_snr_db is not None:
        arrays["min_snr_db"] = np.array(script.min_snr_db, np.float64)
    said = {**program.constant_methods, **literals(method, script.classes)}
    metadata = {**program.metadata, **size_texts(method)}
    return replace(program, methods=(without_scales(method),), constant_methods=said, metadata=metadata), arrays


def _sized_arrays(
    method: Method, inputs: Sequence[Sequence[torch.Tensor]], outputs: Sequence[Sequence[Array]]
) -> dict[str, Array]:
    """As `_arrays`, of samples whose sizes differ."""
    arrays = _facts(method)
    reals = {"input": [[one.contiguous().numpy() for one in row] for row in inputs], "output": outputs}
    for what, ids in (("input", method.inputs), ("output", method.outputs)):
        specs = [method.values[one].spec for one in ids]
        for at, row in enumerate(reals[what]):
            for number, (real, spec) in enumerate(zip(row, specs, strict=True)):
                arrays[f"run_{at}_{what}_{number}"] = _as_stored(real, spec)
    return arrays


def _made(script: Script, library: Library, stock: bool) -> tuple[Program, dict[str, Array]]:
    if is_sized(script):
        return _made_sized(script, library, stock)
    samples = samples_of(script)
    if script.program is None and not is_prepared(script.model):
        check_repeats(script, [script.inputs, *_rows(samples)[:REPEATED]])
    converted = _converted(script)
    original, script = script, script if converted is None else replace(script, model=converted.model)
    exported = capture(script, stock=stock)
    if converted is not None and converted.observed is not None and not is_quantized(exported.graph):
        _in_float(script, exported)
        converted = None
    lowered = lower(exported, script, library)
    passed = pipeline.run(lowered.program, library)
    if script.delegates:
        passed, library = _with_delegates(passed, script, library, stock)
    supported.check(passed, library)
    if stock:
        _refuse_own_operators(passed)
    # in float32 the same script has float inputs
    if script.int8_io and (converted is not None or _is_quantized(script)):
        passed = _with_int8_io(passed, script)
    program, nodes = numbered(passed, lowered)
    method = program.method()
    outputs = eager_outputs(script, samples)
    check_labels(script, samples, outputs)
    check_classes(script, outputs)
    arrays = _arrays(method, samples, outputs)
    _check_outputs(script, method, arrays)
    if converted is not None:
        given = samples.inputs if original.samples is not None else None
        arrays.update(_warnings(original, _calibration(original), given, method))
        arrays.update(_float_arrays(original, converted, samples))
        if converted.observed is not None:
            arrays.update(_quality_arrays(method, nodes, measured(converted.observed, exported, _rows(samples))))
        else:
            arrays["reference"] = np.array(f"PyTorch in {script.quantize}")
    arrays.update(_reasons(exported, nodes))
    arrays.update(_step_arrays(trace(exported, [one[0] for one in samples.inputs]), nodes))
    if (least := _least_snr_db(script)) is not None:
        arrays["min_snr_db"] = np.array(least, np.float64)
    said = {**program.constant_methods, **literals(method, script.classes)}
    return replace(program, methods=(without_scales(method),), constant_methods=said), arrays


def _least_snr_db(script: Script) -> float | None:
    """What the board is held to: what the script says, or what it accepts of int8."""
    if (
        script.min_snr_db is None
        and script.accept is not None
        and script.quantize == "int8"
        and script.samples is not None
    ):
        return script.accept.snr_db
    return script.min_snr_db


def _step_arrays(steps: Mapping[str, Array], nodes: Mapping[int, str]) -> dict[str, Array]:
    """What each instruction gives in eager PyTorch, and the places that it chooses."""
    found = {f"step_{handle}": steps[node] for handle, node in nodes.items() if node in steps}
    for handle, node in nodes.items():
        for at in (1, 2, 3):
            if (chosen := steps.get(f"{node}_{at}_chosen")) is not None:
                found[f"step_{handle}_{at}"] = chosen
    return found


def _made_of_methods(script: Script, library: Library, stock: bool) -> tuple[Program, dict[str, Array]]:
    """Of a script with `methods()`: what they share in PyTorch they share in the program."""
    if script.quantize != "float32":
        hint = 'quantize = "float32", or a script for each method'
        raise ModelError("several methods cannot be quantised yet", where=str(script.path), hint=hint)
    scripts = [
        replace(
            script,
            model=entry.network,
            inputs=entry.inputs,
            inputs_from=f"the example inputs of {name}",
            method=name,
            dynamic_shapes=entry.dynamic_shapes,
        )
        for name, entry in script.methods.items()
    ]
    exported = [capture(one, stock=stock) for one in scripts]
    stored = Stored(frozenset().union(*map(mutated, exported)))
    lowered = [lower(graph, one, library, stored) for graph, one in zip(exported, scripts, strict=True)]
    whole = Program(tuple(one.program.method() for one in lowered))
    calls, origin = calls_of(script, {one.name: one for one in whole.methods})
    called = tuple(eager_calls(script, calls))
    check_calls_repeat(script, called)
    sized = any(method.symbols for method in whole.methods)
    if script.delegates and sized:
        what = "methods with sizes known at run time have no delegates yet"
        raise ModelError(what, where=str(script.path), hint="a script for each method")
    passed = pipeline.run(whole, library)
    if script.delegates:
        passed, library = _with_delegates(passed, script, library, stock)
    supported.check(passed, library)
    if sized:  # the passes need sizes, so they come later
        passed = whole
    if stock:
        _refuse_own_operators(passed)
    arrays = {**call_arrays(called), "origin": np.array(origin)}
    methods = []
    for method, made, graph in zip(passed.methods, lowered, exported, strict=True):
        program, nodes = numbered(Program((method,)), made)
        methods.append(program.method())
        arrays[f"output_names_of_{method.name}"] = np.array(
            [method.values[one].name for one in method.outputs], np.str_
        )
        for at, one in enumerate(called):
            if one.call.name != method.name:
                continue
            if not method.symbols:
                _check_form(script, methods[-1], [(output.dtype, output.shape) for output in one.outputs])
            if one.states is not None:
                steps = _step_arrays(trace(graph, one.call.inputs, one.states), nodes)
                arrays |= {f"call_{at}_{name}": step for name, step in steps.items()}
    texts = {name: one[0] for name, one in script.literals.items() if len(one) == 1 and isinstance(one[0], str)}
    numbers = {name: one for name, one in script.literals.items() if name not in texts}
    for method in methods:
        texts |= size_texts(method)
    made_of = Program(tuple(methods), delegates=passed.delegates, metadata=texts, constant_methods=numbers)
    return made_of, arrays


def _with_delegates(program: Program, script: Script, library: Library, stock: bool) -> tuple[Program, Library]:
    """The program with calls of the delegates that the script asks for, and the operators with these; what each takes
    and leaves, on the screen."""
    if stock:
        raise ModelError(
            "stock ExecuTorch has none of these delegates, so its runtime refuses the file",
            where=str(script.path),
            hint="export without stock: its readers open the file, and a runtime with the delegate runs it",
        )
    try:
        program, left, calls = delegated(program, script.delegates, library)
    except EtError as error:
        raise ModelError(error.what, where=error.where or str(script.path), hint=error.hint) from None
    for name in script.delegates:
        taken = [
            one.name if len(program.methods) == 1 else f"{method.name}.{one.name}"
            for method in program.methods
            for one in method.instructions
            if calls.get(one.op) == name
        ]
        print(f"delegate {name}: {f'{len(taken)} calls: ' if taken else 'takes nothing'}{', '.join(taken)}", flush=True)
    for one in left:
        print(f"delegate {one.by}: not {one}", flush=True)
    return program, library_for(program, library)


def _no_control(script: Script, control: torch.fx.Node) -> ModelError:
    where = source_within(control, script.folder, None)
    hint = (
        'quantize = "float32", choose between two results with torch.where, or take the layers nn.LSTM, nn.GRU for '
        "what a loop computes"
    )
    what = f"torch.{control.target} cannot be quantised where sizes are known at run time"
    return ModelError(what, where=str(where or script.path), hint=hint)


def _in_float(script: Script, exported: torch.export.ExportedProgram) -> None:
    """Nothing of the network is int8: right, and said, where it is nothing but what int8 would break, a small filter or
    long recurrent layers; else a ModelError."""
    what = "nothing in this network can be computed in int8"
    reason = next((one for one in noted(exported).values() if any(known in one for known in ALONE)), None)
    if reason is None or script.int8_io:
        raise ModelError(what, where=str(script.path), hint=reason or "docs/quantization.md says what can")
    print(f"warning: {script.path}: {what}, so that it is exported in float: {reason}", file=sys.stderr)


def _converted(script: Script, sized: Sequence[tuple[torch.Tensor, ...]] = ()) -> Converted | None:
    """The script's network in int8, if it asks for that, or if torchao has prepared it; None where it stays as it is.
    `sized` is the calibration data of one with `dynamic_shapes`."""
    try:
        if script.accept is not None and (is_prepared(script.model) or script.quantize in STORED):
            raise ModelError("accept is a loss of int8, by etexport's own quantizer", hint="leave it out")
        if is_prepared(script.model):
            return converted(script.model)
        if script.quantize == "float32" or _is_quantized(script):
            return None
        if script.quantize in STORED:
            return _in_few_bits(script)
        if script.program is not None:
            raise ModelError("a .pt2 is quantised before it is saved", hint="prepare and convert it with torchao")
        if script.calibration is None:
            hint = "calibration() returns real inputs, as samples() does; a hundred are plenty"
            raise ModelError("int8 needs a function calibration()", hint=hint)
        assert isinstance(script.model, torch.nn.Module)
        with torch.no_grad():
            dry_run(script)
        if sized and script.accept is not None:
            raise ModelError("accept is a loss of a network of fixed sizes", hint="leave it out")
        calibration = sized or list(zip(*map(tuple, calibration_of(script).inputs), strict=True))
        if script.accept is not None:
            return _within(script, script.accept, calibration)
        return quantized(
            script.model, script.inputs, calibration, settings_of(script), small=script.int8_io,
            dynamic_shapes=script.dynamic_shapes,
        )  # fmt: skip
    except EtError as error:
        raise ModelError(error.what, where=error.where or str(script.path), hint=error.hint) from None
    except BaseException as error:
        raise explain(error, script.path, "the model cannot be quantised") from None


def _in_few_bits(script: Script) -> Converted:
    assert isinstance(script.model, torch.nn.Module)
    with torch.no_grad():
        dry_run(script)
    return Converted(
        in_few_bits(script.model, script.inputs, STORED[script.quantize], settings_of(script).keep_float), None
    )


JUDGED = 100
"""So many samples judge a network at most: one of 80 operators takes 0.5 s for them."""


def search_settings(
    path: Path, weights: Path | None, target_db: float, progress: Callable[[str], None]
) -> tuple[Found, Path]:
    """What quantises the script's network best, and where export looks for that. ModelError as of `export`."""
    with _int8_script(path, weights) as script:
        with quiet():
            from etexport.frontend.quantize.search import search

        assert isinstance(script.model, torch.nn.Module)
        calibration = _rows(calibration_of(script))
        trial, rows = _trial(script), []
        if trial.labels is not None:
            fresh = [one for one, counts in zip(trial.samples, trial.counted, strict=True) if counts]
            rows = list(zip(fresh, trial.labels, strict=True))
        kept = tuple(script.keep_float)
        with quiet(), known(load_ops(beside(path.absolute()))):
            return search(script.model, script.inputs, calibration, rows, kept, target_db, progress), settings.path_of(
                path
            )


def bisect(path: Path, weights: Path | None, progress: Callable[[str], None]) -> Bisected:
    """What each layer of the script's network costs int8: the network with that alone in float, in PyTorch. ModelError
    as of `export`."""
    with _int8_script(path, weights) as script, known(load_ops(beside(path.absolute()))):
        return _bisected(script, progress)


def bisect_network(
    network: Network, example_inputs: Tensors, said: Mapping[str, Any], progress: Callable[[str], None]
) -> Bisected:
    """As `bisect`, of a network that is there already; `said` as of `export_network`."""
    with of_network(network, example_inputs, said) as script, known(load_ops()):
        _check_int8(script)
        return _bisected(script, progress)


def _bisected(script: Script, progress: Callable[[str], None]) -> Bisected:
    with quiet():
        from etexport.frontend.quantize.variants import bisected, judge_of, layers_of

    assert isinstance(script.model, torch.nn.Module)
    with quiet():
        subject = subject_of(script.model, script.inputs, _rows(calibration_of(script)), settings_of(script))
        trial = _trial(script)
        return bisected(subject, trial, judge_of(subject, trial, progress), layers_of(subject.variant()))


def _within(script: Script, accept: Accept, calibration: Sequence[Sequence[torch.Tensor]]) -> Converted:
    """The network in int8 with the fewest layers in float for what the script accepts; said on the screen. ModelError,
    with the best that was found, where no layers are enough."""
    with quiet():
        from etexport.frontend.quantize.variants import (
            LEEWAYS_DB,
            accepted,
            bisected,
            figure_of,
            is_within,
            judge_of,
            layers_of,
        )

    assert isinstance(script.model, torch.nn.Module)
    trial = _trial(script)
    if accept.lost_points is not None and trial.labels is None:
        what = "accept: points of accuracy are of labelled samples"
        raise ModelError(what, where=str(script.path), hint="samples() returns (inputs, labels)")

    def told(what: str) -> None:
        print(f"{script.path.name}: {what}", flush=True)

    with quiet():
        subject = subject_of(script.model, script.inputs, calibration, settings_of(script))
        judge = judge_of(subject, trial, told)
        whole = bisected(subject, trial, judge, layers_of(subject.variant()))
        for leeway_db in LEEWAYS_DB:
            found = accepted(whole, judge, accept, leeway_db)
            if not found.found:
                break
            made = converted(subject.variant(found.names))
            figure = figure_of(made.model, subject, trial)
            if is_within(figure, whole, accept, LEEWAYS_DB[0]):
                names = f" ({', '.join(found.names)})" if found.names else ""
                kept = f"{len(found.names)} of {found.of} layers stay in float{names}"
                told(f"{accept} accepted: {kept}: {_figures(figure, whole)}")
                return made
    best = f"with {', '.join(found.names) or 'none'} in float, {_figures(found.figure, whole)}"
    what = f"accept: no layers in float are enough for {accept}"
    raise ModelError(what, where=str(script.path), hint=f"the best found of {found.of} layers: {best}")


def _figures(figure: Figure, found: Bisected) -> str:
    right = "" if figure.right is None else f", {figure.right} of {found.labelled} right (float {found.in_float})"
    return f"{decibels(figure.output_db)}{right}, on {found.judged_on}"


@contextlib.contextmanager
def _int8_script(path: Path, weights: Path | None) -> Iterator[Script]:
    """A script whose network is to be int8, and runs. ModelError as of `export`."""
    with opened(path, None if weights is None else _read_weights(weights), "int8") as script:
        _check_int8(script)
        yield script


def _check_int8(script: Script) -> None:
    if script.methods or is_sized(script) or script.program is not None or script.calibration is None:
        what = "int8 is looked into of a script with model() and calibration(), of fixed sizes"
        raise ModelError(what, where=str(script.path))
    with torch.no_grad():
        dry_run(script)


def _trial(script: Script) -> Trial:
    """The samples that judge what int8 costs: the first of samples() that are none of calibration()'s; all, where there
    are no others, or calibration() where there are none."""
    with quiet():
        from etexport.frontend.quantize.variants import Trial

    samples = calibration_of(script) if script.samples is None else samples_of(script)
    fresh, origin = ~_calibrated(_rows(calibration_of(script)), _rows(samples)), "samples() not calibrated with"
    if not fresh.any():
        fresh, origin = np.ones(len(samples), np.bool_), "calibration()" if script.samples is None else "samples()"
    last = int(np.flatnonzero(fresh)[:JUDGED][-1]) + 1
    fresh = fresh[:last]
    labels = None if samples.labels is None else np.asarray(samples.labels).reshape(-1)[:last][fresh].tolist()
    return Trial(_rows(samples)[:last], fresh.tolist(), labels, f"{int(fresh.sum())} of {origin}")


def settings_of(script: Script) -> Settings:
    """What the file beside the script says, and what the script keeps in float."""
    said = settings.read(settings.path_of(script.path))
    return replace(said, keep_float=tuple(dict.fromkeys((*script.keep_float, *said.keep_float))))


def _calibration(script: Script) -> Sequence[torch.Tensor]:
    return () if script.calibration is None else calibration_of(script).inputs


def _warnings(
    script: Script, calibration: Sequence[Rows], samples: Sequence[Rows] | None, method: Method
) -> dict[str, Array]:
    """What is doubtful about the calibration data, on the screen and for the report."""
    if not calibration:
        return {}
    lines = doubts(calibration, samples, [method.values[one].name for one in method.inputs])
    for line in lines:
        print(f"warning: {script.path}: {line}", file=sys.stderr)
    return {"quantize_warnings": np.array(lines, np.str_)} if lines else {}


def _is_quantized(script: Script) -> bool:
    """Whether the network has quantise operators already: a `.pt2`, or a graph that torchao converted."""
    graph = script.program.graph if script.program is not None else getattr(script.model, "graph", None)
    return isinstance(graph, torch.fx.Graph) and is_quantized(graph)


def _with_int8_io(program: Program, script: Script) -> Program:
    (method,) = program.methods
    try:
        return replace(program, methods=(without_boundary(method),))
    except EtError as error:
        raise ModelError(error.what, where=str(script.path), hint=error.hint) from None


def _float_arrays(script: Script, converted: Converted, samples: Samples) -> dict[str, Array]:
    """What the network gives in float, and which samples served as calibration data, if it was there to run before the
    conversion."""
    observed = converted.observed if is_prepared(script.model) else None
    float_script = script if observed is None else replace(script, model=without_observers(observed))
    arrays = {f"float_output_{at}": one for at, one in enumerate(eager_outputs(float_script, samples))}
    if script.calibration is not None:
        arrays["calibrated"] = _calibrated(_rows(calibration_of(script)), _rows(samples))
    return arrays


def _reasons(exported: torch.export.ExportedProgram, nodes: dict[int, str]) -> dict[str, Array]:
    """Why instructions stay in float, as far as our quantizer decided that; `etexport.report.quality` reads it."""
    reasons = noted(exported)
    found = sorted((handle, reasons[node]) for handle, node in nodes.items() if node in reasons)
    if not found:
        return {}
    handles, words = zip(*found, strict=True)
    return {"float_handles": np.array(handles, np.int64), "float_reasons": np.array(words, np.str_)}


def _quality_arrays(method: Method, nodes: dict[int, str], activations: list[Activation]) -> dict[str, Array]:
    """One entry for each quantise that is in the program or at its boundary, but for those that store again what is
    stored in the same scale (dropout leaves them behind); `etexport.report.quality` reads them."""
    handle_of = {node: handle for handle, node in nodes.items()}
    by_handle = {instruction.handle: instruction for instruction in method.instructions}
    makers = {out: instruction for instruction in method.instructions for out in instruction.outs}
    rows = []
    for one in activations:
        quantise = by_handle.get(handle_of.get(one.node, -1))
        if quantise is None:
            continue
        (source, *_) = quantise.reads
        made = makers.get(source)
        if made is not None and made.op == DEQUANTIZE and made.args[1:5] == quantise.args[1:5]:
            continue
        while made is not None and made.op in (QUANTIZE, DEQUANTIZE):  # another scale for what a layer before has made
            (source, *_) = made.reads
            made = makers.get(source)
        rows.append((method.values[source].name if made is None else made.name, quantise.handle, one))
    return {
        "quality_names": np.array([name for name, _, _ in rows], dtype=np.str_),
        "quality_handles": np.array([handle for _, handle, _ in rows], dtype=np.int64),
        "quality_scales": np.array([one.scale for _, _, one in rows], dtype=np.float64),
        "quality_zero_points": np.array([one.zero_point for _, _, one in rows], dtype=np.int64),
        "quality_snr_db": np.array([one.snr_db for _, _, one in rows], dtype=np.float64),
        "quality_low": np.array([one.low for _, _, one in rows], dtype=np.float64),
        "quality_high": np.array([one.high for _, _, one in rows], dtype=np.float64),
        "quality_saturated": np.array([one.saturated / max(one.elements, 1) for _, _, one in rows], dtype=np.float64),
    }


def _calibrated(calibration: Iterable[Sequence[torch.Tensor]], samples: Iterable[Sequence[torch.Tensor]]) -> Array:
    """Which samples served as calibration data, each calibration input for one sample: accuracy is not judged on
    them."""

    def contents(rows: Iterable[Sequence[torch.Tensor]]) -> list[bytes]:
        return [b"".join(tensor.contiguous().numpy().tobytes() for tensor in one) for one in rows]

    left = Counter(contents(calibration))
    used = []
    for content in contents(samples):
        used.append(left[content] > 0)
        left[content] -= 1
    return np.array(used)


def _rows(samples: Samples) -> list[list[torch.Tensor]]:
    """The inputs of each sample."""
    return [[one[at] for one in samples.inputs] for at in range(len(samples))]


def _arrays(method: Method, samples: Samples, outputs: tuple[Array, ...]) -> dict[str, Array]:
    """Samples and results; those of int8 inputs and outputs as they are stored, with scales and zero points beside
    them."""
    arrays = _facts(method)
    reals = {"input": [one.contiguous().numpy() for one in samples.inputs], "output": list(outputs)}
    for what, ids in (("input", method.inputs), ("output", method.outputs)):
        for at, (real, id_) in enumerate(zip(reals[what], ids, strict=True)):
            arrays[f"{what}_{at}"] = _as_stored(real, method.values[id_].spec)
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    arrays["origin"] = np.array(samples.origin)
    return arrays


def _as_stored(real: Array, spec: TensorSpec) -> Array:
    return stored(real, spec) if spec.qparams is not None else real


def _facts(method: Method) -> dict[str, Array]:
    """Names, scales and zero points of inputs and outputs."""
    arrays: dict[str, Array] = {}
    for what, ids in (("input", method.inputs), ("output", method.outputs)):
        specs = [method.values[one].spec for one in ids]
        if any(spec.qparams is not None for spec in specs):
            known = [
                (0.0, 0) if spec.qparams is None else (spec.qparams.scales[0], spec.qparams.zero_points[0])
                for spec in specs
            ]
            arrays[f"{what}_scales"] = np.array([scale for scale, _ in known])
            arrays[f"{what}_zero_points"] = np.array([zero_point for _, zero_point in known])
        arrays[f"{what}_names"] = np.array([method.values[one].name for one in ids])
    return arrays


def _check_outputs(script: Script, method: Method, arrays: dict[str, Array]) -> None:
    """That eager PyTorch and the program agree on how many outputs there are, and on their shapes and types."""
    outputs = [arrays[name] for at in range(len(arrays)) if (name := f"output_{at}") in arrays]
    _check_form(script, method, [(array.dtype, array.shape[1:]) for array in outputs])


def _check_form(script: Script, method: Method, eager: list[tuple[Any, tuple[int, ...]]]) -> None:
    called = f"{method.name}()"
    changes = script.methods and any(value.role is Role.STATE for value in method.values.values())
    if not method.outputs and not changes:
        raise ModelError(f"{called} returns no tensor", where=str(script.path), hint="a forgotten return?")
    planned = [(method.values[one].spec.dtype.numpy, method.values[one].spec.shape) for one in method.outputs]
    if eager != planned:
        raise ModelError(f"{called} returns {eager} in eager PyTorch and {planned} as a graph", where=str(script.path))


def _refuse_own_operators(program: Program) -> None:
    errors: list[EtError] = []
    for method in program.methods:
        for instruction in method.instructions:
            namespace = instruction.op.partition("::")[0]
            if namespace not in STOCK_NAMESPACES:
                what = f"stock ExecuTorch has no operators {namespace}::, so its runtime refuses the file"
                errors.append(ModelError(what, where=instruction.where, hint="export without stock"))
    raise_all(errors)


def _write_all(files: dict[Path, bytes]) -> None:
    """Write everything aside, then rename: no half file, and no new `.pte` beside an old `.npz`, whoever else writes
    them and whenever this process is ended."""
    aside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            aside[path].write_bytes(content)
        with alone_in(next(iter(files)).parent):
            first, *others = files
            if not first.is_file() or first.read_bytes() != files[first]:
                for path in others:
                    path.unlink(missing_ok=True)
            for path in files:
                aside[path].replace(path)
    finally:
        for path in aside.values():
            path.unlink(missing_ok=True)
