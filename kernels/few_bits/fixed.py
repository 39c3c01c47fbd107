"""How the M4's block fixed point (fixed_m4f.h) reads weights of 8 and 4 bits: the layout of its words, and which layers
it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etexport.kernel.call import Const
from etexport.kernel.node import Node
from etexport.program.model import Array

_LANES = {8: 4, 4: 8}
"""Channels of a block."""
_LONGEST = {8: 512, 4: 128}
"""Elements of a group at most: what an input loses to the fixed point grows with how many share its bits."""


@dataclass(frozen=True)
class Groups:
    """A row is `count` groups of `size` elements, the last one perhaps of fewer, each in `eights` * 8 words of a
    block."""

    count: int
    size: int

    @property
    def eights(self) -> int:
        return -(-self.size // 8)


def whole(outputs: int, bits: int) -> int:
    """Channels of whole blocks."""
    return -(-outputs // _LANES[bits]) * _LANES[bits]


def groups_of(outputs: int, inputs: int, groups: int, bits: int) -> Groups | None:
    """None for what would be filled up by more than a quarter."""
    longest = _LONGEST[bits]
    size = inputs // groups
    if size > longest:
        if groups > 1:
            return None
        parts = -(-inputs // longest)
        size = -(-inputs // (8 * parts)) * 8
        groups = -(-inputs // size)
    found = Groups(groups, size)
    filled = whole(outputs, bits) * groups * found.eights * 8
    return found if 4 * filled <= 5 * outputs * inputs else None


def blocks_of(node: Node) -> tuple[Groups, Const] | None:
    """How weights and scales of rows lie, where block fixed point can read them."""
    if node["bits"] == 16 or node["zero_points"] is not None:
        return None
    return blocks(node["weight"].data, node["scales"].data, node["bits"])


def blocks(weight: Array, scales: Array, bits: int) -> tuple[Groups, Const] | None:
    """`blocks_of` of weights (rows, elements) and scales (rows, groups)."""
    found = groups_of(*weight.shape, scales.shape[1], bits)
    return None if found is None else (found, Const("weight", packed(weight, scales, found, bits)))


def packed(weight: Array, scales: Array, groups: Groups, bits: int) -> Array:
    """Weights (rows, elements) and their scales (rows, groups, or 1) as words: int32."""
    lanes = _LANES[bits]
    rows = whole(len(weight), bits)
    filled = np.zeros((rows, groups.count * groups.size), np.int64)
    filled[: len(weight), : weight.shape[1]] = weight
    blocks = filled.reshape(-1, lanes, groups.count, groups.size).transpose(0, 2, 3, 1)
    words = np.zeros((*blocks.shape[:2], groups.eights * 8), np.int64)
    words[:, :, : groups.size] = _words_of_bytes(blocks) if bits == 8 else _words_of_nibbles(blocks)
    factors = np.zeros((rows, groups.count), np.float32)
    factors[: len(weight)] = scales
    if bits == 8:
        factors[1::2] *= np.float32(0.5)  # sums of upper weights come out twice those of lower ones
    behind = np.ascontiguousarray(factors.reshape(-1, lanes, groups.count).transpose(0, 2, 1)).view(np.int32)
    as_words = (words & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return np.concatenate([as_words, behind], axis=2).reshape(-1)


def _words_of_bytes(blocks: Array) -> Array:
    """[256 * q3 + u2][256 * q1 + u0]; u = q + 128."""
    unsigned = blocks + 128
    upper, lower = (blocks[..., at] * 256 + unsigned[..., at - 1] for at in (3, 1))
    return np.asarray((upper << 16) + (lower & 0xFFFF))


def _words_of_nibbles(blocks: Array) -> Array:
    """Channel 2 j is the lowest nibble of the word turned to the right by 8 j, unsigned; the next one is the highest,
    signed."""
    places = [turned + end for turned in (0, 8, 16, 24) for end in (0, 28)]
    word = np.zeros(blocks.shape[:-1], np.int64)
    for lane, place in enumerate(places):
        word |= ((blocks[..., lane] + (0 if lane % 2 else 8)) & 15) << place % 32
    return word
