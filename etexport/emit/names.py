"""Names of the model as C++ identifiers, and what else of it stands in comments."""

from __future__ import annotations

import hashlib
import re
import string

from etexport.program.model import TensorSpec

_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await
co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires return
short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef
typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq int8_t int16_t int32_t int64_t
uint8_t uint16_t uint32_t uint64_t size_t main linux unix"""
_LIBRARY = """
assert errno stdin stdout stderr NULL INFINITY NAN
memcpy memset memmove memcmp memchr memccpy mempcpy memrchr index rindex bcmp bcopy bzero ffs basename strcat strchr
strcmp strcoll strcpy strcspn strdup strerror strlen strncat strncmp strncpy strndup strnlen strpbrk strrchr strsep
strsignal strspn strstr strtok strxfrm acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh drem erf erfc
exp exp10 exp2 expm1 fabs fdim finite floor fma fmax fmin fmod frexp gamma hypot ilogb infinity isinf isnan j0 j1 jn
ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nan nearbyint nextafter nexttoward pow remainder
remquo rint round scalb scalbln scalbn signbit signgam significand sin sincos sinh sqrt tan tanh tgamma trunc y0 y1 yn
abs div exit abort free malloc time clock signal select read write open close link"""
"""What the headers that are included declare, or an own firmware's are likely to: a namespace cannot have the name of a
function."""
# names that generated code uses itself
_OURS = "et et_size std detail inputs outputs run init reset rows row out step_handles"
_TAKEN = frozenset(f"{_KEYWORDS} {_LIBRARY} {_OURS}".split())
# but ", \\ and ?, of which trigraphs are made
_PLAIN = frozenset(string.ascii_letters + string.digits + " !#$%&'()*+,-./:;<=>@[]^_`{|}~")
LONGEST_TEXT = 255
"""Bytes of a text on the link."""
LONGEST = 96
"""Characters of an identifier; one that is longer is cut."""


def identifier(name: str) -> str:
    """`name` as a C++ identifier that is no keyword and no name of the generated code itself.

    Where little is left to tell it from others (it has no ASCII letter, or others that are lost, or is too long), eight
    hexadecimal digits of its SHA-256 do.
    """
    cleaned = re.sub(r"_{2,}", "_", re.sub(r"\W", "_", name, flags=re.ASCII)).lstrip("_")
    telling = name.isascii() and (cleaned == name or re.search(r"[A-Za-z]", cleaned) is not None)
    if not cleaned or not telling or len(cleaned) > LONGEST:
        cleaned = f"{cleaned[:LONGEST].strip('_') or 'unnamed'}_{_digest(name)}"
    if cleaned[0].isdigit():
        cleaned = f"n{cleaned}"
    return f"{cleaned}_" if cleaned in _TAKEN else cleaned


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def unique(name: str, taken: set[str]) -> str:
    """`identifier(name)`, numbered where it is in `taken` already; adds the result to `taken`."""
    first = candidate = identifier(name)
    number = 2
    while candidate in taken:
        candidate = f"{first}_{number}"
        number += 1
    taken.add(candidate)
    return candidate


def type_name(name: str) -> str:
    """`conv1_geometry` as our types are written: `Conv1Geometry`."""
    return "".join(part[:1].upper() + part[1:] for part in identifier(name).split("_"))


def comment(text: str) -> str:
    """`text` as it may stand in a comment of either kind: one printable line without an end of the comment in it, and
    no backslash at its end, which would take in the next line."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    line = line.replace("*/", "* /").replace("/*", "/ *")
    return f"{line} ." if line.endswith(("\\", "??/")) else line


def quoted(text: str) -> str:
    """`text` as a C++ string literal: whatever is not plain ASCII as the bytes of its UTF-8. What is longer than the
    link tells is cut."""
    content = text.encode(errors="replace")[:LONGEST_TEXT].decode(errors="ignore").encode()
    return '"' + "".join(chr(byte) if chr(byte) in _PLAIN else f"\\{byte:03o}" for byte in content) + '"'


def layout_note(spec: TensorSpec) -> str:
    """`float32 [1, 3, 8, 8] stored (0, 2, 3, 1)`; the order only where it is not the logical one."""
    return str(spec) if spec.is_contiguous else f"{spec} stored ({', '.join(map(str, spec.dim_order))})"
