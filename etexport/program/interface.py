"""What a file says of a method's inputs and outputs beyond the tensors: how integers stand for real numbers, and what
classes are called.

It travels as constant methods (named literals), which stock ExecuTorch loads and anybody's runner may ask for:

    <method>_input_<n>_quantization, <method>_output_<n>_quantization     scale, zero point, lowest and highest integer
    <method>_classes                                                      the name of each element of the first output
    <method>_sizes                  of each size that is known at run time its name, the least and the most it may be
    <method>_input_<n>_sizes        of each dimension its size, or what it is of those: "n", "2 * n + 1"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from etexport.errors import ProgramError
from etexport.program.model import Extent, Method, Program, QParams, Scalar, Symbol
from etexport.program.names import is_identifier

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


def size_texts(method: Method) -> dict[str, str]:
    """Of a method with sizes that are known at run time, what the file says of them."""
    if not method.symbols:
        return {}
    found = {f"{method.name}_sizes": ", ".join(f"{one.name} from {one.least} to {one.most}" for one in method.symbols)}
    for at, id in enumerate(method.inputs):
        texts = list(map(str, method.values[id].spec.shape))
        for extent in method.extents:
            if extent.input == at:
                times = f"{extent.factor} * " if extent.factor != 1 else ""
                more = f" {'+' if extent.offset > 0 else '-'} {abs(extent.offset)}" if extent.offset else ""
                texts[extent.dim] = f"{times}{method.symbols[extent.symbol].name}{more}"
        found[f"{method.name}_input_{at}_sizes"] = ", ".join(texts)
    return found


_SYMBOL = re.compile(r"([A-Za-z_]\w*) from (\d{1,9}) to (\d{1,9})", re.ASCII)
_EXTENT = re.compile(r"(?:(\d{1,9}) \* )?([A-Za-z_]\w*)(?: ([+-]) (\d{1,9}))?", re.ASCII)


def with_sizes(program: Program) -> Program:
    """The program with the symbols that its texts tell of. ProgramError for what cannot be."""
    return replace(program, methods=tuple(_with_sizes(program, method) for method in program.methods))


def _with_sizes(program: Program, method: Method) -> Method:
    where = f"{method.name}_sizes"
    if where not in program.metadata:
        return method
    symbols = []
    for text in program.metadata[where].split(", "):
        match = _SYMBOL.fullmatch(text)
        if match is None or not is_identifier(match[1]) or int(match[2]) >= int(match[3]):
            raise ProgramError(f"{text!r} is no size with a least and a largest value", where=where)
        symbols.append(Symbol(match[1], int(match[2]), int(match[3])))
    names = [symbol.name for symbol in symbols]
    extents: list[Extent] = []
    for at, id in enumerate(method.inputs):
        extents += _extents(program, method.name, at, method.values[id].spec.shape, names)
    for extent in extents:
        most, size = extent.of(symbols[extent.symbol].most), method.values[method.inputs[extent.input]].spec.shape
        if most != size[extent.dim]:
            raise ProgramError(f"dimension {extent.dim} of input {extent.input} is at most {most}", where=where)
    if {extent.symbol for extent in extents} != set(range(len(symbols))) or len(set(names)) != len(names):
        raise ProgramError("a size is that of no input, or twice there", where=where)
    return replace(method, symbols=tuple(symbols), extents=tuple(extents))


def _extents(program: Program, name: str, at: int, shape: tuple[int, ...], names: list[str]) -> list[Extent]:
    where = f"{name}_input_{at}_sizes"
    texts = program.metadata.get(where, "").split(", ") if shape else []
    if len(texts) != len(shape):
        raise ProgramError(f"{texts} are not its {len(shape)} sizes", where=where)
    found = []
    for dim, (text, size) in enumerate(zip(texts, shape, strict=True)):
        match = _EXTENT.fullmatch(text)
        if match is not None and match[2] in names:
            offset = int(match[4] or 0) * (-1 if match[3] == "-" else 1)
            found.append(Extent(at, dim, names.index(match[2]), int(match[1] or 1), offset))
        elif text != str(size):
            raise ProgramError(f"{text!r} is not {size}, nor one of {', '.join(names)}", where=where)
    return found


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
