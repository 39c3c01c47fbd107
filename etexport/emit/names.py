"""Names of the model as C++ identifiers, and what else of it stands in comments."""

from __future__ import annotations

import re

from etexport.program.model import TensorSpec

_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const const_cast constexpr
continue decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long
mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast return short
signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union
unsigned using virtual void volatile wchar_t while xor xor_eq
int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t NULL INFINITY NAN assert errno stdin stdout stderr
memcpy memset main linux unix"""
_OURS = "et std detail inputs outputs run init rows row out step_handles"  # names that generated code uses itself
_TAKEN = frozenset(f"{_KEYWORDS} {_OURS}".split())


def identifier(name: str) -> str:
    """`name` as a C++ identifier that is no keyword and no name of the generated code itself."""
    cleaned = re.sub(r"_{2,}", "_", re.sub(r"\W", "_", name, flags=re.ASCII)).lstrip("_") or "unnamed"
    if cleaned[0].isdigit():
        cleaned = f"n{cleaned}"
    return f"{cleaned}_" if cleaned in _TAKEN else cleaned


def unique(name: str, taken: set[str]) -> str:
    """`identifier(name)`, numbered where it is in `taken` already; adds the result to `taken`."""
    first = candidate = identifier(name)
    number = 2
    while candidate in taken:
        candidate = f"{first}_{number}"
        number += 1
    taken.add(candidate)
    return candidate


def comment(text: str) -> str:
    """`text` as it may stand behind `//`: one line, and no backslash at its end, which would take in the next line."""
    line = " ".join(text.split())
    return f"{line} ." if line.endswith(("\\", "??/")) else line


def layout_note(spec: TensorSpec) -> str:
    """`float32 [1, 3, 8, 8] stored (0, 2, 3, 1)`; the order only where it is not the logical one."""
    return str(spec) if spec.is_contiguous else f"{spec} stored ({', '.join(map(str, spec.dim_order))})"
