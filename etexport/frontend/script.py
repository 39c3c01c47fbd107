"""A model script, or a saved `.pt2`, loaded: the network, its example inputs, its samples."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import importlib.util
import inspect
import io
import logging
import math
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from etexport.errors import Errors, EtError, ModelError
from etexport.frontend.mistakes import explain, in_user_code, is_foreign
from etexport.frontend.quantize.layers import Accept
from etexport.program.model import Array, Scalar
from etexport.program.names import INIT, is_identifier

Weights = Mapping[str, Array]
Network = nn.Module
Tensors = Tensor | tuple[Tensor, ...] | list[Tensor]

QUANTIZATIONS = ("float32", "int8", "int8-weights", "int4-weights", "bf16-weights", "fp16-weights")
FUNCTIONS = ("model", "example_inputs", "samples", "calibration", "train", "methods", "calls")
SETTINGS = (
    "quantize", "keep_float", "accept", "int8_io", "channels_last", "min_snr_db", "classes", "passes", "delegates",
    "dynamic_shapes", "memory_rules",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Entry:
    """A method of a script: the module that it runs, and its example inputs."""

    network: nn.Module
    inputs: tuple[Tensor, ...]
    dynamic_shapes: Any = None


@dataclass(frozen=True, eq=False)
class Script:
    """What a model script says. `inputs` are the example inputs; `samples` is the result of `samples()`, None where
    there is none.

    `program` is set for a `.pt2`, which is captured already. `model_line` is where `model()` begins, where a layer has
    no line of its own.
    """

    path: Path
    model: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    samples: Any = None
    channels_last: bool = False
    model_line: int = 0
    program: torch.export.ExportedProgram | None = None
    quantize: str = "float32"
    calibration: Any = None
    """The result of `calibration()`: inputs that show the ranges of activations, in the form of `samples()`."""
    keep_float: tuple[str, ...] = ()
    """What stays in float: module paths, lines of the script, names of operators."""
    accept: Accept | None = None
    """The loss for which export finds the fewest layers to keep in float as well."""
    int8_io: bool = False
    """Inputs and outputs of an int8 network are int8 too."""
    classes: tuple[str, ...] = ()
    """What the elements of the first output are called."""
    min_snr_db: float | None = None
    """The least ratio of signal to noise that each output must have on the board, against the float network."""
    passes: tuple[str, ...] | None = None
    """Which of the project's passes run, in this order; None: all."""
    memory_rules: tuple[tuple[str, str, str], ...] = ()
    """Board, name of what lies in RAM, region."""
    delegates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Which backends take parts of the network, in this order, and what each is told."""
    dynamic_shapes: Any = None
    """Which sizes of inputs are known at run time only, as torch.export takes them."""
    shapes_line: int = 0
    """Where dynamic_shapes() begins."""
    samples_from: str = "samples()"
    """Which function gave `samples`, for messages."""
    inputs_from: str = "example_inputs()"
    method: str = "forward"
    """What the network is called in the program."""
    methods: Mapping[str, Entry] = field(default_factory=dict)
    """What `methods()` gives, by name: `model` is then the list of all their modules. Empty for a script of one."""
    literals: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    """What else it gives: plain numbers, constant methods in ExecuTorch's words."""
    calls: Any = None
    """The result of `calls()`: methods and their inputs in the order in which they are called."""

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent


@contextlib.contextmanager
def opened(path: Path, weights: Weights | None = None, quantize: str | None = None) -> Iterator[Script]:
    """Load a script or a `.pt2` for as long as the block lasts: the script's folder is importable there, and forgotten
    afterwards.

    Random numbers start from the same seed for every script, one thread computes. `quantize` overrules the script's
    word. ModelError for whatever the script does wrong.
    """
    if not path.is_file():
        raise ModelError(
            "no such file",
            where=str(path),
            hint="give a Python file with model() and example_inputs(), or a saved .pt2",
        )
    if path.suffix not in (".py", ".pt2"):
        raise ModelError(f"a model is a .py script or a .pt2, not {path.suffix or 'this'}", where=str(path))
    with _quiet_torch(), _importable(path.resolve().parent), _told_from_here(path):
        full = path.absolute()  # the script may change the working directory
        script = _load_pt2(full) if path.suffix == ".pt2" else _load_script(full, path, weights)
        torch.set_num_threads(1)  # the script may want more
        yield script if quantize is None else replace(script, quantize=quantize)


@contextlib.contextmanager
def _told_from_here(given: Path) -> Iterator[None]:
    """Places in errors, which are absolute or relative to the script, as the script was given, so that one can jump to
    them."""
    folder, resolved = given.absolute().parent, given.resolve().parent

    def told(error: EtError) -> EtError:
        if isinstance(error, Errors):
            return Errors([told(one) for one in error.errors])
        file, colon, rest = error.where.partition(":")
        inside = next(
            (Path(file).relative_to(one) for one in (folder, resolved) if Path(file).is_relative_to(one)), Path(file)
        )
        if not file or inside.is_absolute() or not (folder / inside).is_file():
            return error
        return type(error)(error.what, where=f"{given.parent / inside}{colon}{rest}", hint=error.hint)

    try:
        yield
    except EtError as error:
        raise told(error) from None
    except Exception as error:
        if not in_user_code(error):
            raise
        raise told(explain(error, given.absolute(), "the script fails")) from None


def trained(path: Path) -> dict[str, Array]:
    """The weights that the script's `train()` gives."""
    with _quiet_torch(), _importable(path.resolve().parent), _told_from_here(path):
        path = path.absolute()
        module = _module(path)
        if not callable(getattr(module, "train", None)):
            raise ModelError(
                "no function train()", where=str(path), hint="train() returns weights by name: {name: array}"
            )
        weights = _call(path, module, "train")
        if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
            raise ModelError(
                f"train() returns {type(weights).__name__}, not arrays by name", where=_line_of(path, module, "train")
            )
        return {name: _as_array(value) for name, value in weights.items()}


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its insides
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def unchanged_torch() -> Iterator[None]:
    """One thread, and random numbers go on afterwards as they would have: a process that never had several threads can
    be copied."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), silent():
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Torch prints its graph and logs warnings and errors before it raises; the exception has all of it."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # whatever the script wants of its own
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Imports look into `folder` first. What was imported from there is forgotten, so that two scripts may both have a
    `layers.py`."""
    path, known, no_bytecode = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # a build leaves nothing beside the user's script
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = no_bytecode
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            # of a script at the root of this repository
            ours = name.partition(".")[0] in ("etexport", "etexport_kernels")
            if (
                file is not None
                and not ours
                and Path(file).resolve().is_relative_to(folder)
                and "site-packages" not in file
            ):
                del sys.modules[name]


def _module(path: Path) -> ModuleType:
    name = f"etexport_script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the script look it up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise explain(error, path, "the script cannot be loaded") from None
    return module


def _near(module: ModuleType, name: str) -> list[str]:
    """What the script itself defines under nearly this name."""
    own = [
        found
        for found, value in vars(module).items()
        if (
            getattr(value, "__module__", None) == module.__name__
            if callable(value)
            else isinstance(value, (str, bool, int, float, list, tuple))
        )
        and callable(value) == (name in FUNCTIONS)
        and found not in (*FUNCTIONS, *SETTINGS)
    ]
    return difflib.get_close_matches(name, own, n=1, cutoff=0.79)


@contextlib.contextmanager
def of_network(network: Network, example_inputs: Tensors, said: Mapping[str, Any]) -> Iterator[Script]:
    """As `opened`, of a network that is there already: a script whose `model()` is a copy of it, and whose other names
    are in `said`.

    Random numbers of whoever called go on afterwards as they would have.
    """
    code = getattr(type(network).forward, "__code__", None)
    path = Path(f"{type(network).__name__}.py" if code is None or is_foreign(code.co_filename) else code.co_filename)
    module = ModuleType(path.stem)
    module.model = functools.partial(copy.deepcopy, network)  # type: ignore[attr-defined]
    for name, value in {"example_inputs": example_inputs, **said}.items():
        setattr(module, name, functools.partial(_given, value) if name in FUNCTIONS else value)
    kept = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), _quiet_torch(), _told_from_here(path):
            yield _checked(path, path, module, None)
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


def _given(value: Any) -> Any:
    return value


def _load_script(path: Path, given: Path, weights: Weights | None) -> Script:
    return _checked(path, given, _module(path), weights)


def _checked(path: Path, given: Path, module: ModuleType, weights: Weights | None) -> Script:
    """What the module says; ModelError for what no script may say."""
    several = callable(getattr(module, "methods", None))
    wanted = () if several else ("model", "example_inputs")
    missing = [name for name in wanted if not callable(getattr(module, name, None))]
    if missing:
        lacks = " and ".join(f"{name}()" for name in missing)
        near = "".join(f"; did you mean {found}()?" for name in missing for found in _near(module, name))
        raise ModelError(
            f"no function {lacks}", where=str(path), hint=f"a model script has model() and example_inputs(){near}"
        )
    for name in (*FUNCTIONS, *SETTINGS):
        for found in _near(module, name) if not hasattr(module, name) else ():
            call = "()" if name in FUNCTIONS else ""
            print(f"note: {given}: {found}{call} means nothing here; did you mean {name}{call}?", file=sys.stderr)
    quantize = getattr(module, "quantize", "float32")
    if quantize not in QUANTIZATIONS:
        known = " or ".join(f'"{name}"' for name in QUANTIZATIONS)
        raise ModelError(
            f"quantize = {quantize!r} is not supported",
            where=str(path),
            hint=f"leave it out, or write quantize = {known}",
        )
    keep_float = getattr(module, "keep_float", ())
    if isinstance(keep_float, str) or not all(isinstance(name, str) for name in keep_float):
        raise ModelError(
            f"keep_float = {keep_float!r} is no list of module paths, lines and operators", where=str(path)
        )
    int8_io = getattr(module, "int8_io", False)
    if not isinstance(int8_io, bool):
        raise ModelError(f"int8_io = {int8_io!r} is neither True nor False", where=str(path))
    min_snr_db = getattr(module, "min_snr_db", None)
    if min_snr_db is not None and (
        isinstance(min_snr_db, bool) or not isinstance(min_snr_db, (int, float)) or not math.isfinite(min_snr_db)
    ):
        raise ModelError(f"min_snr_db = {min_snr_db!r} is no number of decibels", where=str(path))
    classes = getattr(module, "classes", ())
    if isinstance(classes, int):  # how many: not meant for us
        classes = ()
    if not isinstance(classes, (tuple, list)) or len(classes) == 1 or not all(isinstance(one, str) for one in classes):
        raise ModelError(f"classes = {classes!r} is no list of at least two names", where=str(path))
    passes = getattr(module, "passes", None)
    if passes is not None and not (isinstance(passes, (tuple, list)) and all(isinstance(one, str) for one in passes)):
        raise ModelError(f"passes = {passes!r} is no list of names", where=str(path), hint="those of files in passes/")
    passes = None if passes is None else tuple(passes)
    delegates = getattr(module, "delegates", ())
    if isinstance(delegates, (tuple, list)) and all(isinstance(name, str) for name in delegates):
        delegates = {name: {} for name in delegates}
    if not isinstance(delegates, Mapping) or not all(
        isinstance(name, str) and isinstance(options, Mapping) for name, options in delegates.items()
    ):
        what = f"delegates = {delegates!r} is neither a list of names nor options by name"
        raise ModelError(what, where=str(path), hint='delegates = ["acme"], or {"acme": {"bits": 4}}')
    rules = _memory_rules(path, getattr(module, "memory_rules", {}))
    if several:
        made = _of_methods(path, module, weights)
        return replace(made, quantize=quantize, passes=passes, delegates=delegates, memory_rules=rules)
    if isinstance(module.model, nn.Module):
        hint = "def model(): return ..., so that each export makes it anew"
        raise ModelError(
            f"model is a {type(module.model).__name__}, not a function that returns one", where=str(path), hint=hint
        )
    network = _call(path, module, "model") if weights is None else _call(path, module, "model", dict(weights))
    if not isinstance(network, nn.Module):
        what = f"model() returns {type(network).__name__}, not a torch.nn.Module"
        raise ModelError(what, where=_line_of(path, module, "model"))
    where = _line_of(path, module, "example_inputs")
    inputs = _example(_call(path, module, "example_inputs"), where)
    if not inputs:
        raise ModelError(f"example_inputs() must return {_EXAMPLE}", where=where)
    shapes = getattr(module, "dynamic_shapes", None)
    channels_last = getattr(module, "channels_last", False)
    if not isinstance(channels_last, bool):
        raise ModelError(f"channels_last = {channels_last!r} is neither True nor False", where=str(path))
    return Script(
        path,
        _evaluating(network),
        inputs,
        _inputs(path, module, "samples"),
        channels_last,
        module.model.__code__.co_firstlineno if hasattr(module.model, "__code__") else 0,
        quantize=quantize,
        calibration=_inputs(path, module, "calibration"),
        keep_float=tuple(keep_float),
        accept=_accept(path, getattr(module, "accept", None)),
        int8_io=int8_io,
        classes=tuple(classes),
        delegates=delegates,
        min_snr_db=None if min_snr_db is None else float(min_snr_db),
        passes=passes,
        memory_rules=rules,
        dynamic_shapes=_call(path, module, "dynamic_shapes") if callable(shapes) else shapes,
        shapes_line=getattr(getattr(shapes, "__code__", None), "co_firstlineno", 0),
    )


def _memory_rules(path: Path, said: Any) -> tuple[tuple[str, str, str], ...]:
    boards = said.items() if isinstance(said, Mapping) else [("", said)]
    rows: list[tuple[Any, ...]] = [
        (board, name, region)
        for board, rules in boards
        for name, region in (rules.items() if isinstance(rules, Mapping) else [(rules, None)])
    ]
    if not all(isinstance(one, str) for row in rows for one in row):
        hint = '{"board": {"name of a result or a layer": "region of the board"}}'
        raise ModelError(f"memory_rules = {said!r} says nothing", where=str(path), hint=hint)
    return tuple((board, name, region) for board, name, region in rows)


def _accept(path: Path, said: Any) -> Accept | None:
    if said is None:
        return None
    known = [one.name for one in fields(Accept)]
    numbers = isinstance(said, Mapping) and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one) for one in said.values()
    )
    if not numbers or not set(said) <= set(known) or not {"snr_db", "lost_points"} & set(said):
        what = f"accept = {said!r} is no loss of int8"
        hint = '{"snr_db": 30} or {"lost_points": 1.0}, and "layers": the most to keep in float'
        raise ModelError(what, where=str(path), hint=hint)
    return Accept(**said)


_EXAMPLE = "a tensor, or a tuple of tensors, one for each argument of forward()"


def _example(given: Any, where: str) -> tuple[Tensor, ...]:
    """Example inputs; none where they are in another form."""
    inputs = (given,) if isinstance(given, Tensor) else tuple(given) if isinstance(given, (tuple, list)) else ()
    if not all(isinstance(value, Tensor) for value in inputs):
        return ()
    for at, value in enumerate(inputs):
        if value.layout is not torch.strided or value.is_complex() or value.device.type != "cpu":
            what = f"example input {at} is {value.dtype}, {value.layout}, on {value.device}"
            raise ModelError(what, where=where, hint="dense tensors of real numbers, on the cpu")
    return tuple(value.detach() for value in inputs)


def _of_methods(path: Path, module: ModuleType, weights: Weights | None) -> Script:
    """What a script with `methods()` says: a module and its example inputs for each name, or plain numbers."""
    where = _line_of(path, module, "methods")
    for name in ("samples", "calibration"):
        if callable(getattr(module, name, None)):
            hint = "calls() returns [(name of a method, inputs), ...]"
            raise ModelError(f"{name}() does not say of which method", where=_line_of(path, module, name), hint=hint)
    given = _call(path, module, "methods") if weights is None else _call(path, module, "methods", dict(weights))
    if not isinstance(given, Mapping) or not given:
        what = f"methods() returns {type(given).__name__ if not isinstance(given, Mapping) else 'nothing'}"
        raise ModelError(what, where=where, hint="a dict: {name: (module, example inputs)}")
    entries: dict[str, Entry] = {}
    literals: dict[str, tuple[Scalar, ...]] = {}
    for name, said in given.items():
        if not isinstance(name, str) or not is_identifier(name) or name == INIT:
            what = "is what begins anew is called" if name == INIT else "is no identifier"
            raise ModelError(f"methods(): the name {name!r} {what}", where=where, hint="choose another name")
        if (plain := _plain(said)) is not None:
            literals[name] = plain
        elif isinstance(said, (tuple, list)) and len(said) == 2 and isinstance(said[0], nn.Module):
            inputs = _example(said[1], where)
            if not inputs and not (isinstance(said[1], (tuple, list)) and not said[1]):
                raise ModelError(f"methods(): the example inputs of {name} must be {_EXAMPLE}", where=where)
            entries[name] = Entry(_evaluating(said[0]), inputs)
        else:
            what = f"methods(): {name} is {type(said).__name__}"
            raise ModelError(what, where=where, hint="(module, example inputs), or plain numbers")
    sizes = getattr(module, "dynamic_shapes", None)
    sizes = (_call(path, module, "dynamic_shapes") if callable(sizes) else sizes) or {}
    if not isinstance(sizes, Mapping) or not sizes.keys() <= entries.keys():
        hint = f'{{"{next(iter(entries), "name")}": what torch.export takes for it}}'
        what = "dynamic_shapes of several methods are a dict by the names of methods"
        raise ModelError(what, where=_line_of(path, module, "dynamic_shapes"), hint=hint)
    entries = {name: replace(entry, dynamic_shapes=sizes.get(name)) for name, entry in entries.items()}
    if not entries:
        raise ModelError("methods() gives numbers only", where=where, hint="{name: (module, example inputs)}")
    return Script(
        path,
        nn.ModuleList([one.network for one in entries.values()]).eval(),
        (),
        model_line=module.methods.__code__.co_firstlineno if hasattr(module.methods, "__code__") else 0,
        methods=entries,
        literals=literals,
        calls=_inputs(path, module, "calls"),
    )


def _plain(said: Any) -> tuple[Scalar, ...] | None:
    """A number or text, or a tuple of these; None for anything else."""
    every = tuple(said) if isinstance(said, (tuple, list)) else (said,)
    return every if every and all(isinstance(one, (bool, int, float, str)) for one in every) else None


def _inputs(path: Path, module: ModuleType, name: str) -> Any:
    """What `samples()` or `calibration()` returns; None where the script has no such function."""
    if not callable(getattr(module, name, None)):
        return None
    given = _call(path, module, name)
    if given is None:
        raise ModelError(f"{name}() returns nothing", where=_line_of(path, module, name), hint="a forgotten return?")
    return given


def _evaluating(network: nn.Module) -> nn.Module:
    """The network as it computes after training."""
    try:
        return network.eval()
    except NotImplementedError:  # a graph that torchao has prepared or converted
        from torchao.quantization.pt2e import move_exported_model_to_eval

        moved: nn.Module = move_exported_model_to_eval(network)
        return moved


def _load_pt2(path: Path) -> Script:
    import torch.ao.quantization.fx._decomposed  # a quantised graph names operators that this file defines

    try:
        with silent():
            program = torch.export.load(path)
    except Exception as error:
        told = explain(error, path, "this .pt2 cannot be read")
        raise ModelError(
            told.what, where=told.where, hint="torch.export.save writes one; torch.save does not"
        ) from None
    if program.example_inputs is None:
        raise ModelError(
            "this .pt2 has no example inputs",
            where=str(path),
            hint="save it with torch.export.save as export() gave it",
        )
    args, kwargs = program.example_inputs
    if kwargs or not args or not all(isinstance(value, Tensor) for value in args):
        raise ModelError("this .pt2 takes arguments that are no tensors, or by name", where=str(path))
    return Script(path, program.module(), tuple(args), program=program)


def _call(path: Path, module: ModuleType, name: str, *args: Any) -> Any:
    function = getattr(module, name)
    if args:
        try:
            inspect.signature(function).bind(*args)
        except TypeError:
            what = f"{name}() takes no weights"
            raise ModelError(what, where=_line_of(path, module, name), hint="write def model(weights=None)") from None
    try:
        return function(*args)
    except BaseException as error:
        raise explain(error, path, f"{name}() failed") from None


def _line_of(path: Path, module: ModuleType, name: str) -> str:
    code = getattr(getattr(module, name), "__code__", None)
    return f"{path}:{code.co_firstlineno}" if code is not None else str(path)


def _as_array(value: Any) -> Array:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
