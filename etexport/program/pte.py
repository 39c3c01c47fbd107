"""The `.pte` file, ExecuTorch's program format (identifier ET12): `read` and `write`.

`wire.py` takes the bytes apart and puts them together, `decode.py` and `encode.py` know what they mean.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

from etexport.errors import ProgramError
from etexport.program.decode import decode
from etexport.program.encode import encode
from etexport.program.model import Program


def read(data: bytes) -> Program:
    """The program in a file, in its canonical form: views are instructions, results are not repeated, integers not
    boxed.

    Value ids are the indices of the file's values, handles the positions of its instructions (views that the file
    expresses by a shared address have handles behind them). Whatever the bytes, the result passes `verify` or
    ProgramError is raised.
    """
    with _no_search_for_cycles():
        return decode(data)


@contextlib.contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Hundreds of thousands of small objects arise, none of which refers to itself: looking for such ones takes a fifth
    of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def load(path: Path) -> Program:
    """`read` of a file, whose path stands in the errors."""
    try:
        return read(path.read_bytes())
    except ProgramError as error:
        raise ProgramError(
            error.what, where=f"{path}: {error.where}" if error.where else str(path), hint=error.hint
        ) from None


def write(program: Program, *, stock: bool = False) -> bytes:
    """The file. The same program gives the same bytes. With `stock`, operators that only etexport has are refused.

    Values that nothing uses are left out, and values and instructions are numbered anew.
    """
    return encode(program, stock=stock)
