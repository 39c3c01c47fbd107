"""Flash by kernel and by layer: what the code and the constants of each are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etexport.artifacts.memory import Step

GENERATED = "generated"
"""The kernel of code that is no kernel's: calls, addresses, tables."""


@dataclass(frozen=True)
class Code:
    """`bytes` of a function, or of what was inlined into it, that are of the kernel in this folder and run in these
    steps alone: numbers as in `memory.json`, none where it is not known, as of tables."""

    kernel: str
    function: str
    bytes: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class KernelFlash:
    """A kernel's folder: bytes of code, of the constants of steps that call it, and the names of the steps that run the
    code."""

    kernel: str
    code: int
    constants: int
    functions: tuple[tuple[str, int], ...]
    layers: tuple[str, ...]


def by_kernel(code: Sequence[Code], steps: Sequence[Step]) -> tuple[KernelFlash, ...]:
    """The largest first."""
    constants: dict[str, int] = {}
    for step in steps:
        if step.bytes_constants:
            constants[step.family] = constants.get(step.family, 0) + step.bytes_constants
    found = []
    for kernel in sorted({*constants, *(one.kernel for one in code)}):
        own = [one for one in code if one.kernel == kernel]
        functions: dict[str, int] = {}
        for one in own:
            functions[one.function] = functions.get(one.function, 0) + one.bytes
        run = {at for one in own for at in one.steps}
        found.append(
            KernelFlash(
                kernel=kernel,
                code=sum(functions.values()),
                constants=constants.get(kernel, 0),
                functions=tuple(sorted(functions.items(), key=lambda pair: (-pair[1], pair[0]))),
                layers=tuple(step.name for step in steps if step.step in run),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.code - one.constants, one.kernel)))


def of_layer(code: Sequence[Code]) -> dict[int, int]:
    """Bytes of code that one step alone runs, by its number."""
    found: dict[int, int] = {}
    for one in code:
        if len(one.steps) == 1:
            found[one.steps[0]] = found.get(one.steps[0], 0) + one.bytes
    return found
