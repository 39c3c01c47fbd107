"""Calls of a script's methods, one after the other: what `calls()` says, and what eager PyTorch makes of them.

In `model.npz` they stand as `call_<i>_name`, `call_<i>_input_<j>`, `call_<i>_output_<j>`, and of the first call of each
method `call_<i>_step_<instruction>[_<result>]`, in the place of what samples have (`samples.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from etexport.errors import ModelError
from etexport.frontend.mistakes import explain
from etexport.frontend.samples import DRAWN, PARTS, SEED, check_row, drawn_sized
from etexport.frontend.script import Script
from etexport.program.model import Array, Method
from etexport.program.names import INIT


@dataclass(frozen=True, eq=False)
class Call:
    """Of the method `name` with these inputs; of `INIT` none."""

    name: str
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Called:
    """What eager PyTorch made of a call. Of the first of each method, `states` are its buffers as it found them."""

    call: Call
    outputs: tuple[Array, ...]
    states: Mapping[str, Tensor] | None = None


def calls_of(script: Script, methods: Mapping[str, Method]) -> tuple[tuple[Call, ...], str]:
    """The script's calls, checked against the example inputs, and where they are from; without calls(), all methods in
    turn, of the example inputs and of random ones in their range, of sizes known at run time of several."""
    if script.calls is None:
        random = torch.Generator().manual_seed(SEED)
        turn = [Call(name, entry.inputs) for name, entry in script.methods.items()]
        drawn = [
            Call(one.name, drawn_sized(one.inputs, methods[one.name], random, PARTS[at % len(PARTS)]))
            for at in range(DRAWN)
            for one in turn
        ]
        return (*turn, *drawn), f"example inputs and {DRAWN} rounds of seeded random inputs in their range"
    if not isinstance(script.calls, (list, tuple)) or not script.calls:
        raise _wrong(script, f"it returns {type(script.calls).__name__ if script.calls else 'nothing'}")
    return tuple(_call(script, methods, at, one) for at, one in enumerate(script.calls)), "calls()"


def _wrong(script: Script, what: str) -> ModelError:
    hint = f'return [(name of a method, inputs as in its example inputs), ...]; ("{INIT}", ()) begins anew'
    return ModelError(f"calls(): {what}", where=str(script.path), hint=hint)


def _call(script: Script, methods: Mapping[str, Method], at: int, said: Any) -> Call:
    if not isinstance(said, (tuple, list)) or len(said) != 2 or not isinstance(said[0], str):
        raise _wrong(script, f"call {at} is no pair of a name and inputs")
    name, given = said
    if name != INIT and name not in script.methods:
        raise _wrong(script, f"call {at} is of {name!r}, the methods are {', '.join(script.methods)}")
    examples = () if name == INIT else script.methods[name].inputs
    inputs = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if len(inputs) != len(examples):
        raise _wrong(script, f"call {at} gives {len(inputs)} inputs to {name}, which takes {len(examples)}")
    if name in methods and methods[name].symbols:
        row = tuple(map(torch.as_tensor, inputs))
        try:
            check_row(replace(script, inputs=examples), methods[name], f"call {at}", row)
        except ModelError as error:
            raise _wrong(script, error.what.partition(": ")[2]) from None
        return Call(name, row)
    return Call(name, tuple(_fitting(script, at, one, example) for one, example in zip(inputs, examples, strict=True)))


def _fitting(script: Script, at: int, given: Any, example: Tensor) -> Tensor:
    """In the example's type and memory format; ModelError for other shapes, and numbers that do not fit."""
    try:
        tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise _wrong(script, f"an input of call {at} is no array: {str(error).splitlines()[0]}") from None
    if tensor.shape != example.shape:
        raise _wrong(script, f"an input of call {at} has shape {list(tensor.shape)}, the example {list(example.shape)}")
    exact = tensor.to(example.dtype)
    both_float = tensor.is_floating_point() and example.is_floating_point()
    if not both_float and not torch.equal(exact.to(tensor.dtype), tensor):
        raise _wrong(script, f"an input of call {at} is {tensor.dtype} and does not fit {example.dtype}")
    return torch.empty_like(example).copy_(exact)


def eager_calls(script: Script, calls: Sequence[Call]) -> Iterator[Called]:
    """What the original modules give, one thread, one call after the other: a state lives on, and what methods share
    they share."""
    networks: dict[str, nn.Module] = {}
    seen: set[str] = set()
    with torch.no_grad():
        for at, call in enumerate(calls):
            if call.name == INIT or not networks:  # copied at once, so that they share what the originals share
                networks = copy.deepcopy({name: entry.network for name, entry in script.methods.items()})
            if call.name == INIT:
                yield Called(call, ())
                continue
            network = networks[call.name]
            states = {name: buffer.clone() for name, buffer in network.named_buffers(remove_duplicate=False)}
            try:
                outputs = network(*call.inputs)
            except BaseException as error:
                raise explain(error, script.path, f"{call.name} fails in call {at}") from None
            leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
            found = tuple(leaf.detach().numpy().copy() for leaf in leaves)
            yield Called(call, found, None if call.name in seen else states)
            seen.add(call.name)


def check_calls_repeat(script: Script, called: Sequence[Called]) -> None:
    """ModelError where the calls give other outputs the second time: a method remembers what is no buffer, or draws
    random numbers."""
    again = eager_calls(script, [one.call for one in called])
    for at, (first, second) in enumerate(zip(called, again, strict=True)):
        if [one.tobytes() for one in first.outputs] != [one.tobytes() for one in second.outputs]:
            what = f"call {at}, of {first.call.name}, gives other numbers when all calls are made again"
            hint = "what a model remembers belongs into a registered buffer, which becomes state; noise is an input"
            raise ModelError(what, where=str(script.path), hint=hint)


def call_arrays(called: Sequence[Called]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for at, one in enumerate(called):
        arrays[f"call_{at}_name"] = np.array(one.call.name)
        arrays |= {f"call_{at}_input_{place}": x.contiguous().numpy() for place, x in enumerate(one.call.inputs)}
        arrays |= {f"call_{at}_output_{place}": x for place, x in enumerate(one.outputs)}
    return arrays
