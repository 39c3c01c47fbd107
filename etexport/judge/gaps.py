"""How far each operator's result on the board is from the program's own meaning, over several samples.

The program is computed in numpy from its inputs alone, by what each operator declares (`Op.reference`), so that errors
of the operators before are in a gap, as they are in the outputs. Of an int8 program integers are told in the unit of
what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etexport.judge.against_float import against_float, ratio_db
from etexport.judge.compare import Traced
from etexport.judge.replay import LEEWAY, Passed, Replaying
from etexport.judge.steps import QUANTIZE
from etexport.kernel.library import Library
from etexport.program.model import Array, Instruction, Method


@dataclass(frozen=True)
class Gap:
    """One operator. `snr_db` is infinite where all is equal; `got` and `expected` are the element furthest off, at
    `index` of `sample`. `module` is the layer in which it lies, `float_snr_db` the same against the float network as
    export measured it (None: not quantised there)."""

    handle: int
    name: str
    module: str
    op: str
    source: str
    samples: int
    elements: int
    mse: float
    snr_db: float
    worst: float
    sample: int
    index: tuple[int, ...]
    got: float
    expected: float
    float_snr_db: float | None = None


@dataclass(frozen=True, eq=False)
class Inside:
    """What an instruction gave on the board, and what it means, as stored; samples first. `name` is that of the step on
    the board: of a layer in int8 the layer's. `scale` and `zero_point` say what stored integers stand for."""

    name: str
    instruction: Instruction
    board: Array
    meant: Array
    scale: float = 1.0
    zero_point: int = 0

    def real(self, stored: Array) -> Array:
        return (stored.astype(np.float64) - self.zero_point) * self.scale


def inside(
    method: Method, library: Library, traced: Mapping[int, Sequence[Traced]], inputs: Sequence[Sequence[Array]]
) -> tuple[Inside, ...]:
    """What there was to see and can be computed, in order. `traced` are the samples that ran, in order from the reset;
    `inputs` those of all. Of an instruction that ran several times in a sample its last result."""
    program = Replaying(method, library, LEEWAY["nearest"])
    found: dict[int, tuple[list[Array], list[Array]]] = {}
    names: dict[int, str] = {}
    for sample, steps in traced.items():
        program.run(Passed(inputs[sample]))
        seen = {one.handle: one.data for one in steps}
        names |= {one.handle: one.name for one in steps}
        for one in method.instructions:
            got, meant = seen.get(one.handle), program.known.get(one.outs[0]) if one.outs else None
            if got is None or meant is None or got.size != meant.size or got.dtype.kind != meant.dtype.kind:
                continue
            columns = found.setdefault(one.handle, ([], []))
            columns[0].append(got.reshape(meant.shape))
            columns[1].append(meant)
    by_handle = {one.handle: one for one in method.instructions}
    return tuple(
        Inside(names[handle], by_handle[handle], np.stack(board), np.stack(meant), *_scale(by_handle[handle]))
        for handle, (board, meant) in sorted(found.items())
        if len(board) == len(traced)
    )


def _scale(instruction: Instruction) -> tuple[float, int]:
    scale, zero_point = instruction.args[1:3] if instruction.op in QUANTIZE else (1.0, 0)
    assert isinstance(scale, (int, float)) and isinstance(zero_point, int), instruction
    return float(scale), zero_point


def gaps(found: Sequence[Inside], samples: Sequence[int], float_db: Mapping[int, float]) -> tuple[Gap, ...]:
    """A row for each; `samples` are the numbers of those that ran, `float_db` is of export, by handle."""
    rows = []
    for one in found:
        board, meant = one.real(one.board), one.real(one.meant)
        whole = against_float([board], [meant], [one.name], np.ones(len(board), bool), "")
        if whole is None:
            continue
        (output,) = whole.outputs
        with np.errstate(invalid="ignore"):
            off = np.where(board == meant, 0.0, board - meant)
        rows.append(
            Gap(
                one.instruction.handle, one.name, _module(one.name), one.instruction.op,
                str(one.instruction.source or ""), len(board), meant.size, float(np.mean(off**2)), output.snr_db,
                output.max_abs_error, samples[output.sample], output.index, output.got, output.expected,
                float_db.get(one.instruction.handle),
            )
        )  # fmt: skip
    return tuple(rows)


def _module(name: str) -> str:
    """Names are paths of layers, and the operator's behind it where a layer has several."""
    return name.rpartition(".")[0] or name


def by_module(rows: Sequence[Gap], found: Sequence[Inside]) -> tuple[tuple[str, int, float, float], ...]:
    """Of each module: its name, its operators, signal to noise over all of their elements, and the worst element."""
    modules: dict[str, list[tuple[Gap, Inside]]] = {}
    of = {one.instruction.handle: one for one in found}
    for row in rows:
        modules.setdefault(row.module, []).append((row, of[row.handle]))
    told = []
    for name, ones in modules.items():
        signal = sum(float(np.sum(one.real(one.meant) ** 2)) for _, one in ones)
        noise = sum(row.mse * row.elements for row, _ in ones)
        told.append((name, len(ones), ratio_db(signal, noise), max(row.worst for row, _ in ones)))
    return tuple(told)
