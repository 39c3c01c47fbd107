"""Whether a model agrees with itself: the same inputs and buffers give the same outputs, for no graph has another
memory than buffers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from etexport.errors import ModelError
from etexport.frontend.mistakes import explain, is_foreign
from etexport.frontend.script import Script

NEAR = 1e-6
"""Of the largest output: sums in another order, where nothing is seen to change."""
DEPTH = 5
"""How far into lists, dictionaries and objects it is looked for what changes."""


def check_repeats(script: Script, rows: Sequence[Sequence[Tensor]]) -> None:
    """Run the model twice over these inputs, from the same buffers, and over the first of them in between: what changes
    by turns is at the same turn again after one of the two. ModelError that names what changes, where the outputs
    do."""
    model = script.model
    assert isinstance(model, nn.Module)
    draws = _Draws()
    with torch.no_grad(), _put_back(model) as put_back, _watched(model) as layers:
        untouched = _seen(script)
        first, of_first = _outputs(script, rows), layers.copy()
        known = _seen(script)
        for again in (rows[:1], rows):
            put_back()
            layers.clear()
            second = _outputs(script, again)
            of_second = layers.copy()
            expected = first if again is rows else first[: len(first) // len(rows)]
            if not (
                len(expected) == len(second)
                and all(_same(one, other) for one, other in zip(expected, second, strict=True))
            ):
                break
        else:
            return
        now = _seen(script)
        changed = _changed(known, now)
        layer = next((one[0] for one, other in zip(of_first, of_second, strict=False) if one != other), "")
        with contextlib.suppress(ModelError), draws:  # it does not know control flow
            _outputs(script, rows)
    near = len(expected) == len(second) and all(_near(one, other) for one, other in zip(expected, second, strict=True))
    if near and not changed and not draws.lines:
        return
    changed = changed or _changed(untouched, now)
    training = [name or "the model" for name, one in model.named_modules() if one.training]
    what = "forward() gives other numbers when it is called again with the same inputs"
    if draws.lines:
        causes = [f"{operator} draws random numbers" for operator, _ in draws.lines[:1]]
        causes += (
            [f"{', '.join(training[:3])} {'is' if len(training) == 1 else 'are'} in training mode"] if training else []
        )
    else:
        causes = [f"{', '.join(changed[:3])} changes"] if changed else [f"it begins in {layer}"] if layer else []
    where = next((line for _, line in draws.lines if line), "") or _forward(model, script)
    hint = (
        "what a model remembers belongs into a registered buffer, which becomes state; noise is an input; dropout "
        "rests in eval mode"
    )
    raise ModelError("; ".join([what, *causes]), where=where, hint=hint)


def _changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    return [name for name, content in after.items() if before.get(name, content) != content]


def _outputs(script: Script, rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    found: list[Tensor] = []
    for inputs in rows:
        try:
            given = [torch.empty_like(example).copy_(one) for one, example in zip(inputs, script.inputs, strict=True)]
            outputs = script.model(*given)
        except BaseException as error:
            raise explain(error, script.path, "model() fails on example_inputs()") from None
        found += [leaf.detach().clone() for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return found


@contextlib.contextmanager
def _put_back(model: nn.Module) -> Iterator[Any]:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def put_back() -> None:
        for name, buffer in model.named_buffers():
            if name in before and buffer.shape == before[name].shape:
                buffer.copy_(before[name])

    try:
        yield put_back
    finally:
        put_back()


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[tuple[str, bytes]]]:
    """What each layer gives, in the order in which they end."""
    seen: list[tuple[str, bytes]] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            if torch.compiler.is_compiling():  # a branch of torch.cond, which eager PyTorch captures before it runs
                return
            seen.append(
                (name, b"".join(_digest(leaf) for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)))
            )

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operators that draw random numbers: (name, line of the user's code)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            frames = [frame for frame in traceback.extract_stack() if not is_foreign(frame.filename)]
            own = [frame for frame in frames if "etexport" not in Path(frame.filename).parts[-3:-1]]
            self.lines.append((str(func.overloadpacket), f"{own[-1].filename}:{own[-1].lineno}" if own else ""))
        return func(*args, **(kwargs or {}))


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and _digest(one) == _digest(other)


def _near(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.is_floating_point():
        return False
    scale = float(one.abs().nan_to_num().max()) if one.numel() else 0.0
    return bool(torch.allclose(one, other, rtol=0.0, atol=NEAR * scale, equal_nan=True))


def _digest(tensor: Tensor) -> bytes:
    with contextlib.suppress(Exception):
        return hashlib.sha256(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        ).digest()
    return b""


def _forward(model: nn.Module, script: Script) -> str:
    """Where forward() begins; the script itself where that is not the user's."""
    code = getattr(type(model).forward, "__code__", None)
    return (
        str(script.path)
        if code is None or is_foreign(code.co_filename)
        else f"{code.co_filename}:{code.co_firstlineno}"
    )


# ---- what a model can remember beside its buffers --------------------------------------------------------------------


def _seen(script: Script) -> dict[str, bytes]:
    """The content of everything that user code could change: attributes of modules, globals of the script's files,
    random generators."""
    found: dict[str, bytes] = {}
    known: set[int] = set()
    model = script.model
    assert isinstance(model, nn.Module)
    for name, parameter in model.named_parameters():
        found[name] = _digest(parameter)
    for path, module in model.named_modules():
        for owner in (vars(module), _own(type(module))):
            for name, value in owner.items():
                if name not in _TORCHS:
                    _look(value, f"{path}.{name}".lstrip("."), found, known, DEPTH)
    folder = os.path.join(script.folder, "")  # noqa: PTH118 (a Path has no separator at its end)
    for file in list(sys.modules.values()):
        place = getattr(file, "__file__", None)
        if (
            isinstance(place, str)
            and place.startswith(folder)
            and not is_foreign(place)
            and "site-packages" not in place
        ):
            for name, value in list(vars(file).items()):
                if not name.startswith("__") and not isinstance(value, (types.ModuleType, nn.Module)):
                    inside: dict[str, bytes] = {}
                    _look(value, name, inside, known, DEPTH)
                    found |= {f"{one} of {Path(place).name}": content for one, content in inside.items()}
    found["Python's random state"] = repr(random.getstate()).encode()
    found["numpy's random state"] = repr(np.random.get_state()).encode()
    return found


_TORCHS = frozenset(vars(nn.Module())) | {"__module__", "__doc__", "__annotations__", "__parameters__"}
_SIMPLE = (bool, int, float, complex, str, bytes, type(None))


def _own(kind: type) -> dict[str, Any]:
    """What a class of the user's holds itself."""
    return {} if kind.__module__.startswith("torch.") else dict(vars(kind))


def _look(value: Any, name: str, found: dict[str, bytes], known: set[int], depth: int) -> None:
    with contextlib.suppress(Exception):
        if isinstance(value, _SIMPLE):
            found[name] = repr(value).encode()
            return
        if id(value) in known or depth == 0:
            return
        known.add(id(value))
        if isinstance(value, Tensor):
            found[name] = _digest(value)
        elif isinstance(value, np.ndarray):
            found[name] = hashlib.sha256(value.tobytes()).digest()
        elif isinstance(value, torch.Generator):
            found[name] = _digest(value.get_state())
        elif isinstance(value, (random.Random, np.random.RandomState, np.random.Generator)):
            state = (
                value.bit_generator.state
                if isinstance(value, np.random.Generator)
                else getattr(value, "getstate", None)
            )
            found[name] = repr(state() if callable(state) else state or value.get_state()).encode()  # type: ignore[union-attr]
        elif isinstance(value, dict):
            found[f"the length of {name}"] = str(len(value)).encode()
            for key in list(value)[:1000]:
                _look(value[key], f"{name}[{key!r}]", found, known, depth - 1)
        elif isinstance(value, (list, tuple)):
            found[f"the length of {name}"] = str(len(value)).encode()
            for at, one in enumerate(value[:1000]):
                _look(one, f"{name}[{at}]", found, known, depth - 1)
        elif isinstance(value, types.FunctionType):
            for attribute, content in vars(value).items():
                _look(content, f"{name}.{attribute}", found, known, depth - 1)
            for at, content in enumerate(value.__defaults__ or ()):
                _look(content, f"default {at} of {name}", found, known, depth - 1)
            for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                _look(cell.cell_contents, f"{variable} in {name}", found, known, depth - 1)
        elif isinstance(value, type):
            for attribute, content in (
                _own(value).items() if not value.__module__.startswith(("builtins", "numpy")) else ()
            ):
                if attribute not in _TORCHS and not attribute.startswith("__"):
                    _look(content, f"{value.__name__}.{attribute}", found, known, depth - 1)
        elif isinstance(value, nn.Module):
            return
        elif type(value).__module__ in ("itertools", "collections"):
            found[name] = repr(value).encode()
        elif hasattr(value, "__dict__"):
            for attribute, content in vars(value).items():
                _look(content, f"{name}.{attribute}", found, known, depth - 1)
