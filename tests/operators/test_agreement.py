"""What PyTorch refuses `infer` refuses, every case is accepted by both, and both name the same types and shapes.

An operator may take less than PyTorch does (a bias of one element for a whole layer), and says so; it may never take
more.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from etexport.errors import ModelError
from etexport.kernel.cases import Case, T
from etexport.kernel.library import load_ops
from etexport.kernel.op import Op
from etexport.program.model import DType

from .batch import infer
from .boards import takes_dtype_of_output
from .cases import Sample, documented, drawn, random_samples, sample
from .oracle import called, in_torch

OPS = {
    name: op
    for name, op in load_ops().ops.items()
    if in_torch(name) and op.draw is not None and name != "aten::full.out"
}
OUR_OWN = {"aten::convolution.out": ("padding",)}
"""Arguments that mean more here than in PyTorch: padding after each dimension may follow that before it, once a pad is
fused."""

BENT = "bent"
BENT_CASES = 150

Outcome = list[tuple[DType, tuple[int, ...]]] | str
"""Types and shapes, or the words of the refusal."""


def of_torch(one: Sample) -> Outcome:
    try:
        returned = called(one, wide=False)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    many = returned if isinstance(returned, (tuple, list)) else (returned,)
    return [(DType.of_numpy(str(result.dtype).removeprefix("torch.")), tuple(result.shape)) for result in many]


def of_infer(one: Sample) -> Outcome:
    try:
        return list(infer(one, one_dtype(one)))
    except ModelError as error:
        return str(error)


def one_dtype(one: Sample) -> DType | None:
    return one.args[0].of.dtype if takes_dtype_of_output(one) else None


def disagreement(one: Sample) -> str:
    torch_says, we_say = of_torch(one), of_infer(one)
    if isinstance(we_say, str) and one.case.note == BENT:
        return ""
    if isinstance(torch_says, str) != isinstance(we_say, str):
        return f"{one}: PyTorch says {torch_says}, infer says {we_say}"
    if not isinstance(torch_says, str) and torch_says != list(we_say):
        return f"{one}: PyTorch gives {torch_says}, infer {we_say}"
    return ""


def bent(op: Op, case: Case, seed: int) -> Case:
    """The case with one argument changed a little: another number, a list one longer or shorter, a shape that may no
    longer fit."""
    choose = random.Random(seed)
    args = list(case.args)
    names = [parameter.name for parameter in op.signature.parameters]
    at = choose.choice([at for at, name in enumerate(names) if name not in OUR_OWN.get(op.name, ())])
    args[at] = _bent(args[at], choose)
    return replace(case, args=tuple(args), note=BENT)


def _bent(arg: Any, choose: random.Random) -> Any:
    if isinstance(arg, T):
        shape = _bent_list(arg.shape, choose, low=1)
        return replace(arg, shape=shape, dim_order=None, values=None)
    if isinstance(arg, tuple) and any(isinstance(item, T) for item in arg):
        at = choose.randrange(len(arg))
        return (*arg[:at], _bent(arg[at], choose), *arg[at + 1 :])
    if isinstance(arg, tuple):
        return _bent_list(arg, choose, low=-3)
    if isinstance(arg, bool) or arg is None or isinstance(arg, str):
        return arg
    if isinstance(arg, int):
        return min(arg + choose.choice((-9, -3, -2, -1, 1, 2, 3, 9)), 2**63 - 1)
    return arg * choose.choice((-1.0, 0.5, 2.0))


def _bent_list(items: tuple[Any, ...], choose: random.Random, low: int) -> tuple[Any, ...]:
    if any(not isinstance(item, int) for item in items):
        return items
    match choose.randrange(4 if items else 1):
        case 0:
            return (*items, max(low, choose.choice((-1, 0, 1, 2))))
        case 1:
            return items[:-1]
        case 2:
            return items[::-1]
    at = choose.randrange(len(items))
    return (*items[:at], max(low, items[at] + choose.choice((-4, -2, -1, 1, 2, 4))), *items[at + 1 :])


@pytest.mark.parametrize("name", OPS)
def test_infer_agrees_with_pytorch(name: str) -> None:
    op = OPS[name]
    samples = [*documented(op), *random_samples(op, 60)]
    samples += [sample(op, bent(op, case, seed), seed) for seed, case in enumerate(drawn(op, BENT_CASES))]
    with torch.no_grad():
        found = [text for text in map(disagreement, samples) if text]
    assert not found, f"{len(found)} of {len(samples)}:\n" + "\n".join(found[:12])
