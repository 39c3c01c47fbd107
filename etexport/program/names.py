"""Names of values and instructions: the format keeps none, so ours travel as frames and others' are derived."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from etexport.program.operators import PERMUTE, TRANSPOSE

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

INIT = "init"
"""In a sequence of calls: no method, but every state has its first content again."""

KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const
    const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern false
    float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private
    protected public register reinterpret_cast restrict return short signed sizeof static static_assert static_cast
    struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual void
    volatile wchar_t while xor xor_eq
    """.split()  # noqa: SIM905 one word a line is ninety lines
)

OPERAND_NAMES: dict[str, tuple[str, ...]] = {
    # what the tensor operands of an operator are called, by position among its arguments; "" where the producer names
    # it
    "convolution": ("", "weight", "bias"),
    "conv1d": ("", "weight", "bias"),
    "conv2d": ("", "weight", "bias"),
    "linear": ("", "weight", "bias"),
    "addmm": ("bias", "", "weight"),
    "mm": ("", "weight"),
    "bmm": ("", "weight"),
    "_native_batch_norm_legit_no_training": ("", "weight", "bias", "mean", "var"),
    "native_layer_norm": ("", "", "weight", "bias"),
    "native_group_norm": ("", "weight", "bias"),
    "embedding": ("weight",),
    "quantized_conv2d": ("", "weight", "bias"),
    "quantized_depthwise_conv2d": ("", "weight", "bias"),
    "quantized_linear": ("", "weight", "bias"),
}

TRANSPOSES = frozenset({PERMUTE, "aten::t_copy.out", TRANSPOSE})
"""A weight that is transposed on its way to its operator is named by the operator."""


def is_identifier(text: str) -> bool:
    """Whether the text can be a name in C++: an ASCII identifier and no keyword."""
    return _IDENTIFIER.fullmatch(text) is not None and text not in KEYWORDS


def identifier(text: str) -> str:
    """An identifier that resembles the text."""
    cleaned = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return cleaned if cleaned[:1].isalpha() or cleaned[:1] == "_" else f"_{cleaned}"


class Names:
    """Hands out identifiers, each once; a name that is taken gets the lowest number that makes it new."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | KEYWORDS
        self._next: dict[str, int] = {}

    def new(self, wanted: str) -> str:
        base = identifier(wanted)
        if base not in self._taken:
            self._taken.add(base)
            return base
        for number in self._numbers(base):
            name = f"{base}_{number}"
            if name not in self._taken:
                self._taken.add(name)
                return name
        raise AssertionError("unreachable")

    def _numbers(self, base: str) -> Iterator[int]:
        while True:
            self._next[base] = self._next.get(base, 0) + 1
            yield self._next[base]


def base_name(op: str) -> str:
    """`convolution` of `aten::convolution.out`."""
    return op.partition("::")[2].partition(".")[0]


def short_name(op: str) -> str:
    """What a result is called after its operator: `permute` of `aten::permute_copy.out`."""
    base = base_name(op)
    return _SHORT.get(base) or base.removesuffix("_copy").strip("_") or "value"


_SHORT = {
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_to_dim_order_copy": "to_order",
    "_clone_dim_order": "clone",
}
