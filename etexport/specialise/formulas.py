"""Numbers of a geometry that depend on sizes: seen at many sizes, said as one expression.

What is fitted is compared with every number that was seen; nothing is taken that differs anywhere.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

Sizes = tuple[int, ...]
"""One a symbol."""

ALONE = 48
"""So many sizes of one symbol are looked at, at most."""

MOST_STRIDE = 64
"""What a size is divided by at most: strides of a chain of layers, multiplied."""


class Varying(int):
    """A number that depends on sizes: it counts as what it is at the largest, and `text` is the expression in C++."""

    text: str

    def __new__(cls, value: int, text: str) -> Varying:
        made = super().__new__(cls, value)
        made.text = text
        return made


class VaryingReal(float):
    """As `Varying`, for a real number."""

    text: str

    def __new__(cls, value: float, text: str) -> VaryingReal:
        made = super().__new__(cls, value)
        made.text = text
        return made


def formula(seen: Mapping[Sizes, int], edges: Mapping[Sizes, int], names: Sequence[str]) -> str | None:
    """The expression that gives each of these numbers; None where none of the known forms does. At `edges`, where some
    size is 1 or 0, code may have been simplified, and a number may be an exception."""
    found = _generic({**seen, **edges}, names) or _generic(seen, names)
    if found is None:
        return None
    for at, name in enumerate(names):
        wrong = {sizes: value for sizes, value in edges.items() if _value(found, names, sizes) != value}
        least = {sizes[at] for sizes in wrong}
        if not wrong or len(least) > 1:
            continue
        (one,) = least
        there = {sizes: value for sizes, value in edges.items() if sizes[at] == one}
        other = _generic(there, names, sure=False)
        if other is not None:
            found = f"({name} == {one} ? {other} : {found})"
    right = all(_value(found, names, sizes) == value for sizes, value in edges.items())
    return found if right else None


def _value(text: str, names: Sequence[str], sizes: Sizes) -> int:
    """C++'s division of numbers that are not negative is Python's //; its choice is turned round. Names are numbers
    before Python reads any: they are the file's."""
    known = {name: str(size) for name, size in zip(names, sizes, strict=True)}
    text = re.sub(r"[A-Za-z_]\w*", lambda name: known[name[0]], text)
    while " ? " in text:
        begin = text.index("(")
        condition, rest = text[begin + 1 : -1].split(" ? ", 1)
        yes, no = _split(rest)
        text = yes if eval(condition) else no
    return int(eval(text.replace("/", "//")))


def _split(rest: str) -> tuple[str, str]:
    depth = 0
    for at, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if not depth and rest.startswith(" : ", at):
            return rest[:at], rest[at + 3 :]
    raise AssertionError(rest)


def _generic(seen: Mapping[Sizes, int], names: Sequence[str], *, sure: bool = True) -> str | None:
    if len(set(seen.values())) == 1:
        return str(next(iter(seen.values())))
    return _polynomial(seen, names, sure) or _divided(seen, names) or _of_parts(seen, names)


def _polynomial(seen: Mapping[Sizes, int], names: Sequence[str], sure: bool) -> str | None:
    points = np.array(list(seen), np.float64)
    values = np.array(list(seen.values()), np.float64)
    every = [powers for powers in itertools.product(range(3), repeat=len(names)) if sum(powers) <= 2]
    bilinear = [powers for powers in every if max(powers) < 2]
    for monomials in ([powers for powers in bilinear if sum(powers) < 2], bilinear, every):
        if len(seen) < len(monomials) + sure:
            return None
        columns = np.stack([np.prod(points ** np.array(powers, np.float64), axis=1) for powers in monomials], axis=1)
        factors, _, rank, _ = np.linalg.lstsq(columns, values, rcond=None)
        rounded = [round(factor) for factor in factors.tolist()]
        if rank == len(monomials) and np.array_equal(columns @ np.array(rounded, np.float64), values):
            return _sum(list(zip(rounded, monomials, strict=True)), names)
    return None


def _sum(terms: Sequence[tuple[int, Sizes]], names: Sequence[str]) -> str:
    text = ""
    for factor, powers in sorted((term for term in terms if term[0]), key=lambda term: (-sum(term[1]), term[1])):
        symbols = [name for name, power in zip(names, powers, strict=True) for _ in range(power)]
        number = [] if symbols and abs(factor) == 1 else [str(abs(factor))]
        sign = "-" if factor < 0 else "+"
        text += f"{f' {sign} ' if text else '-' if factor < 0 else ''}{' * '.join([*symbols, *number])}"
    return text


def _divided(seen: Mapping[Sizes, int], names: Sequence[str]) -> str | None:
    """factor * ((size + before) / stride) + rest, of one of the sizes."""
    for at, name in enumerate(names):
        by_size: dict[int, set[int]] = {}
        for sizes, value in seen.items():
            by_size.setdefault(sizes[at], set()).add(value)
        if any(len(values) > 1 for values in by_size.values()) or len(by_size) < 4:
            continue
        points = np.array(sorted(by_size))
        values = np.array([next(iter(by_size[size])) for size in points.tolist()])
        for stride in range(2, MOST_STRIDE + 1):
            for before in range(stride):
                parts = (points + before) // stride
                span = int(parts[-1] - parts[0])
                factor = int(values[-1] - values[0]) // span if span > 2 else 0
                rest = int(values[0]) - factor * int(parts[0])
                if factor and np.array_equal(factor * parts + rest, values):
                    whole = f"({f'{name} + {before}' if before else name}) / {stride}"
                    whole = whole if factor == 1 else f"{whole} * {factor}"
                    return whole if not rest else f"{whole} {'+' if rest > 0 else '-'} {abs(rest)}"
    return None


def _of_parts(seen: Mapping[Sizes, int], names: Sequence[str]) -> str | None:
    """Of several sizes, each divided: the rows of an image times its columns, `(h + 1) / 2 * ((w + 1) / 2)`. How each
    can be divided shows where the others are the same."""
    choices = []
    for at in range(len(names)):
        lines: dict[Sizes, dict[int, int]] = {}
        for sizes, value in seen.items():
            lines.setdefault((*sizes[:at], *sizes[at + 1 :]), {})[sizes[at]] = value
        choices.append(_divisions(max(lines.values(), key=len)))
    for parts in itertools.product(*choices):
        divided: dict[Sizes, int] = {}
        for sizes, value in seen.items():
            there = tuple((size + part[1]) // part[0] for size, part in zip(sizes, parts, strict=True))
            if divided.setdefault(there, value) != value:
                break
        else:
            told = [_told(name, *part) for name, part in zip(names, parts, strict=True)]
            if (found := _polynomial(divided, told, sure=True)) is not None:
                return found
    return None


def _told(name: str, stride: int, before: int) -> str:
    return name if stride == 1 else f"({f'({name} + {before})' if before else name} / {stride})"


def _divisions(line: Mapping[int, int]) -> list[tuple[int, int]]:
    """Each (stride, before) for which the numbers are an affine function of (size + before) / stride, of the smallest
    such stride."""
    points = np.array(sorted(line))
    values = np.array([line[size] for size in points.tolist()])
    for stride in range(1, MOST_STRIDE + 1):
        found = []
        for before in range(stride):
            parts = (points + before) // stride
            span = int(parts[-1] - parts[0])
            factor = int(values[-1] - values[0]) // span if span > 2 else 0
            if np.array_equal(factor * (parts - parts[0]) + values[0], values):
                found.append((stride, before))
        if found:
            return found
    return []


def samples(ranges: Sequence[tuple[int, int]]) -> list[Sizes]:
    """Sizes at which a program is looked at: all there are where these are few, with some beyond, which say more of
    what is a formula; else the ends, some next to these, and some between. Of several, each is looked at as if it were
    alone as well, the others the largest: where one is divided shows only there."""
    few = max(4, math.floor(ALONE ** (1 / max(len(ranges), 1))))
    each = []
    for least, most in ranges:
        if most - least < few:
            each.append(list(range(least, most + 1)))
            continue
        near = max(1, few // 3)
        between = [least + (most - least) * step // (few - 2 * near + 1) for step in range(1, few - 2 * near + 1)]
        each.append(sorted({*range(least, least + near), *between, *range(most - near + 1, most + 1)}))
    found: list[Sizes] = list(itertools.product(*each))
    ends = tuple(most for _, most in ranges)
    for at, own in enumerate(ranges if len(ranges) > 1 else ()):
        found += [(*ends[:at], *alone, *ends[at + 1 :]) for alone in samples([own])]
    return list(dict.fromkeys(found))
