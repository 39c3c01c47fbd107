"""JSON files between stages are frozen dataclasses that are written here and read, checked by their types, here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from etexport.artifacts.files import json_text, write_whole
from etexport.errors import ModelError

Record = TypeVar("Record")


def read_record(path: Path, kind: type[Record], hint: str) -> Record:
    """The file as a `kind`; fields that it does not know are left out. ModelError where the file is missing, is no such
    JSON, or lacks a field or has another type at one, which is named; `hint` says which verb makes the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise ModelError("no such file", where=str(path), hint=hint) from None
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise ModelError(f"cannot be read: {error}", where=str(path), hint=hint) from None


def write_record(path: Path, record: Any) -> Path:
    """Write it whole, a line an object; returns `path`."""
    return write_whole(path, record_text(record).encode())


def record_text(record: Any) -> str:
    return json_text(msgspec.to_builtins(record)) + "\n"
