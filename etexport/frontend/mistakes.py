"""Foreign exceptions become `ModelError` here: the line of the user's script, what is useful of the message, what to
do. No tracebacks."""

from __future__ import annotations

import functools
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from etexport.errors import ModelError

_LIBRARIES = (
    Path(torch.__file__).resolve().parent,
    Path(torch.__file__).resolve().parent.parent / "torchao",
    Path(__file__).resolve().parents[1],
)
_STDLIB = Path(sysconfig.get_paths()["stdlib"]).resolve()
_SITE = tuple(Path(sysconfig.get_paths()[name]).resolve() for name in ("purelib", "platlib"))

HINTS = (
    (
        r"\b_detect_is_causal_mask\b",
        "PyTorch's encoder looks into the mask, to find out whether it is causal",
        "say so beside the mask: is_causal=True where it is, else is_causal=False",
    ),
    (
        r"might be aliasing|Encountered aliasing",
        "a branch or a round gives back what it was given, or is given two views of one tensor",
        "write x.clone() for such a result, and for a view that is carried",
    ),
    (
        r"FunctionalTensor on its own",
        "torch takes no torch.tensor() inside a branch or a loop that stands in another one",
        "make the number outside, or write torch.zeros, torch.full, or 0 for what a while_loop counts",
    ),
    (
        r"data-dependent",
        "a Python `if`, or a size, depends on what a tensor holds",
        "nothing is decided in Python on the device: use torch.where, torch.clamp, fixed sizes",
    ),
    (
        r"shapes cannot be multiplied|size mismatch|expected input|size of tensor",
        "",
        "example_inputs() must fit model()",
    ),
    (
        r"Found <class '[^']*'> in output, which is not a known type",
        "forward() returns an object of a class that torch.export does not know",
        "return tensors, a tuple or a dict of them, or call torch.export.register_dataclass(the class) in the script",
    ),
    (
        r"PackedParams",
        "its layers are quantised already, in PyTorch's eager mode",
        'give the float model, with quantize = "int8" and calibration(): it is quantised here',
    ),
    (
        r"relative import with no known parent package",
        "a script is a file of its own, not a part of a package",
        "what lies beside it is imported by its name: `from layers import Net` in place of `from .layers import Net`",
    ),
    (r"No module named", "", "modules beside the script and installed packages can be imported"),
    (
        r"\.numpy\(\)|FakeTensor|ProxyTensor",
        "",
        "use torch functions in forward(), not numpy and not Python numbers made of tensors",
    ),
)
"""(what torch's message, or the name of a function on the way, contains; what to say in its place; what to do)."""


@functools.cache
def is_foreign(file: str) -> bool:
    """Whether the file is torch's, torchao's, Python's or this project's own code: not where a user looks for a
    mistake."""
    if file.startswith("<"):
        return True
    path = Path(file).resolve()
    if any(path.is_relative_to(folder) for folder in _LIBRARIES):
        return True
    # site-packages lie inside it
    return path.is_relative_to(_STDLIB) and not any(path.is_relative_to(folder) for folder in _SITE)


def explain(error: BaseException, script: Path, doing: str) -> ModelError:
    """The error at the innermost line of the user's code that the exception passed through; else at the script as a
    whole."""
    if isinstance(error, ModelError):
        return error
    # Python wraps it where a class is just being made
    if any(isinstance(one, KeyboardInterrupt) for one in _chain(error)):
        raise KeyboardInterrupt
    if isinstance(error, SyntaxError) and error.filename:
        return ModelError(
            f"{error.msg}: {(error.text or '').strip()}", where=f"{_shown(error.filename, script)}:{error.lineno}"
        )
    file, line = _innermost(error) or (str(script), 0)
    where = f"{_shown(file, script)}:{line}" if line else str(script)
    text = "\n".join([said(error), *_functions(error)])
    known = ((message, hint) for pattern, message, hint in HINTS if re.search(pattern, text))
    message, hint = next(known, ("", ""))
    return ModelError(f"{doing}: {message or _useful(error)}", where=where, hint=hint)


def said(error: BaseException) -> str:
    """The exception's words; "" where it fails to say them."""
    try:
        return str(error)
    except Exception:
        return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _innermost(error: BaseException) -> tuple[str, int] | None:
    for one in _chain(error):
        frames = [frame for frame in traceback.extract_tb(one.__traceback__) if not is_foreign(frame.filename)]
        if frames:
            return frames[-1].filename, frames[-1].lineno or 0
    return None


def _functions(error: BaseException) -> Iterator[str]:
    """The names of the functions that it passed through."""
    for one in _chain(error):
        yield from (frame.name for frame in traceback.extract_tb(one.__traceback__))


def in_user_code(error: BaseException) -> bool:
    """Whether the exception passed through the user's code."""
    return _innermost(error) is not None


def _shown(file: str, script: Path) -> str:
    """The file as the user would type it: beside the script as given, else its name in its package."""
    path, folder = Path(file).resolve(), script.resolve().parent
    return str(script.parent / path.relative_to(folder)) if path.is_relative_to(folder) else module_relative(path)


def module_relative(path: Path) -> str:
    """The path below the entry of `sys.path` that holds it (the longest), so that no folder of this machine is
    named."""
    entries = [Path(entry).resolve() for entry in sys.path if entry]
    holding = [entry for entry in entries if path.is_relative_to(entry) and path != entry]
    return path.relative_to(max(holding, key=lambda entry: len(entry.parts))).as_posix() if holding else path.name


_NOISE = re.compile(
    r"^\s*(File \"|Traceback|The above exception|During handling|User [Ss]tack|\(Refer|For (more|C\+\+)|Set TORCH|from "
    r"user code|"
    r"To (fix|log)|Stacktrace|While executing|Original traceback|GraphModule|Use tlparse|You can suppress|~+|\^+)"
)


def _useful(error: BaseException) -> str:
    """The first lines of the message that are not about torch's insides."""
    lines = [line.strip() for line in said(error).splitlines()]
    kept: list[str] = []
    for line in lines:
        if _NOISE.match(line):
            break
        if line:
            kept.append(line)
    text = " ".join(kept[:3]) or (lines[0] if lines else "")
    name = type(error).__name__
    return f"{name}: {text}" if text else name
