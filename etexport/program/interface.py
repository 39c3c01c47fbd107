"""What a file says of a method's inputs and outputs beyond the tensors: how integers stand for real numbers, and what
classes are called.

It travels as constant methods (named literals), which stock ExecuTorch loads and anybody's runner may ask for:

    <method>_input_<n>_quantization, <method>_output_<n>_quantization     scale, zero point, lowest and highest integer
    <method>_classes                                                      the name of each element of the first output
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etexport.errors import ProgramError
from etexport.program.model import Method, Program, QParams, Scalar

Literals = Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True)
class Interface:
    """`inputs` and `outputs` by position: None where a tensor holds its numbers themselves, or nothing is known."""

    inputs: tuple[QParams | None, ...] = ()
    outputs: tuple[QParams | None, ...] = ()
    classes: tuple[str, ...] = ()


def literals(method: Method, classes: tuple[str, ...] = ()) -> dict[str, tuple[Scalar, ...]]:
    """Of a method whose inputs and outputs have their scales."""
    found: dict[str, tuple[Scalar, ...]] = {}
    for role, ids in (("input", method.inputs), ("output", method.outputs)):
        for at, id in enumerate(ids):
            known = method.values[id].spec.qparams
            if known is not None:
                (scale,), (zero_point,) = known.scales, known.zero_points
                found[_quantization(method, role, at)] = (scale, zero_point, known.qmin, known.qmax)
    return {**found, _classes(method): classes} if classes else found


def interface(program: Program, method: Method) -> Interface:
    """ProgramError where a literal of one of these names is something else."""
    return Interface(
        tuple(
            _qparams(program.constant_methods, _quantization(method, "input", at)) for at in range(len(method.inputs))
        ),
        tuple(
            _qparams(program.constant_methods, _quantization(method, "output", at)) for at in range(len(method.outputs))
        ),
        _names(program.constant_methods, _classes(method)),
    )


def _quantization(method: Method, role: str, at: int) -> str:
    return f"{method.name}_{role}_{at}_quantization"


def _classes(method: Method) -> str:
    return f"{method.name}_classes"


def _qparams(given: Literals, name: str) -> QParams | None:
    if name not in given:
        return None
    match given[name]:
        case (float(scale), int(zero_point), int(low), int(high)) if scale > 0 and low <= zero_point <= high:
            return QParams((scale,), (zero_point,), low, high)
    raise ProgramError(f"{given[name]} is no scale, zero point, lowest and highest integer", where=name)


def _names(given: Literals, name: str) -> tuple[str, ...]:
    names = given.get(name, ())
    if not all(isinstance(one, str) for one in names):
        raise ProgramError("these are no names of classes", where=name)
    return tuple(str(one) for one in names)
