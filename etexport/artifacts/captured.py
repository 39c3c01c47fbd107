"""What a capture leaves: records and gaps, written as they come to `.npz`, `.csv` or `.jsonl`, so that a host that is
killed loses nothing.

Lines of `.csv` and `.jsonl` are in the file once they are written. An `.npz` cannot grow, so records go to a journal
beside it (`X.npz.journal`) first; the `.npz` is made of it again and again, which takes at most a tenth of the time,
and the journal goes at the end.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from etexport.artifacts.files import Array, npz, numbered, opened, write_whole
from etexport.errors import EtError, ModelError

_SHARE = 10
"""An `.npz` is made again when so many times as long has gone by as it took."""
_SOONEST_S = 0.2
_HEAD = struct.Struct("<II")
"""Bytes of a journal's entry, and the CRC-32 of these."""


@dataclass(frozen=True, eq=False)
class Record:
    """One run: inputs where they are known, outputs. `sequence` counts records from 1, `run` is the board's own
    number."""

    sequence: int
    time: float
    """Seconds since 1970, when it had come whole."""
    board: str
    program_hash: int
    boot: int
    """How often the board had started; 0 where it does not say."""
    run: int
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclass(frozen=True)
class Gap:
    """Nothing, or not all, came before record `before`: from `time` on, for `seconds`, for this reason."""

    before: int
    time: float
    seconds: float
    reason: str


class _Kind(Protocol):
    def record(self, record: Record) -> None: ...
    def gap(self, gap: Gap) -> None: ...
    def close(self) -> None: ...


class CaptureFile:
    """What a capture is written to: the arguments are the fields of `Record` and `Gap`."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind

    def record(
        self, sequence: int, time: float, board: str, program_hash: int, boot: int, run: int,
        inputs: tuple[Array, ...], outputs: tuple[Array, ...],
    ) -> None:  # fmt: skip
        self._kind.record(Record(sequence, time, board, program_hash, boot, run, inputs, outputs))

    def gap(self, before: int, time: float, seconds: float, reason: str) -> None:
        self._kind.gap(Gap(before, time, seconds, reason))

    def close(self) -> None:
        self._kind.close()


def create(path: Path, *, overwrite: bool = False) -> CaptureFile:
    """A file by its suffix. ModelError for one that is not known, and for a file that is there, unless it may be
    overwritten."""
    kinds: Mapping[str, type[_Npz | _Csv | _Lines]] = {".npz": _Npz, ".csv": _Csv, ".jsonl": _Lines}
    if path.suffix not in kinds:
        raise ModelError(f"is captured to {', '.join(kinds)}, not to {path.suffix or 'this'}", where=str(path))
    journal = _journal(path)
    if any(there.is_file() and _is_held(there) for there in (path, journal)):
        raise ModelError("another capture is writing to it", where=str(path), hint="another name, or wait for its end")
    for there in (path, journal):
        if there.exists() and not overwrite:
            hint = (
                f"`etexport capture --recover {path}` keeps what is in it"
                if there == journal
                else "another name, or --overwrite"
            )
            raise ModelError("is there already", where=str(there), hint=hint)
        there.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return CaptureFile(kinds[path.suffix](path))


def _is_held(path: Path) -> bool:
    """Whether a capture that goes on has it: its lock is gone with the process, however that ends."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def recover(path: Path) -> int:
    """Make the `.npz` of the journal that a killed capture left; how many records it has. ModelError where there is
    none."""
    journal = _journal(path)
    if not journal.is_file():
        raise ModelError(
            "no capture was broken off there", where=str(journal), hint="an .npz without a journal beside it is whole"
        )
    if _is_held(journal):
        raise ModelError("the capture goes on", where=str(journal), hint="end it, or wait for its end")
    entries = list(_entries(journal))
    _make_npz(path, entries)
    journal.unlink()
    return sum(isinstance(entry, Record) for entry in entries)


@dataclass(frozen=True, eq=False)
class Captured:
    """A captured `.npz`: arrays with records along the first axis."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    program_hash: int
    gaps: tuple[str, ...]


def read_captured(path: Path) -> Captured:
    if not path.is_file():
        raise ModelError("no such file", where=str(path), hint="`etexport capture DIR -o X.npz` writes it")
    with opened(path) as arrays:
        if "program_hash" not in arrays:
            raise ModelError("is no capture", where=str(path), hint="`etexport capture DIR -o X.npz` writes it")
        hashes = {int(one) for one in arrays["program_hash"].tolist()}
        if len(hashes) != 1:
            raise ModelError(f"has records of {len(hashes)} programs", where=str(path))
        gaps = tuple(str(reason) for reason in arrays["gap_reason"])
        return Captured(numbered(arrays, "input"), numbered(arrays, "output"), hashes.pop(), gaps)


# ---- kinds of files --------------------------------------------------------------------------------------------------


class _Appended:
    """A file that grows by whole entries: one that does not fit on the disk is taken back, and the error says what is
    kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._size = 0
        self._count = 0

    def add(self, content: bytes) -> None:
        left = content
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            what = f"cannot be written: {error.strerror}; {self._count} entries are in it"
            raise EtError(what, where=str(self._path), hint="free some room, then capture to another file") from error
        self._size += len(content)
        self._count += 1

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Lines:
    def __init__(self, path: Path) -> None:
        self._file = _Appended(path)

    def record(self, record: Record) -> None:
        values = {
            "inputs": [one.tolist() for one in record.inputs],
            "outputs": [one.tolist() for one in record.outputs],
        }
        self._add({"kind": "record", **_told(record), **values})

    def gap(self, gap: Gap) -> None:
        self._add(_gap_told(gap))

    def _add(self, content: Mapping[str, Any]) -> None:
        self._file.add((json.dumps(content) + "\n").encode())

    def close(self) -> None:
        self._file.close()


class _Csv:
    """A column an element: `output_0[3]`."""

    def __init__(self, path: Path) -> None:
        self._file = _Appended(path)
        self._columns: list[str] = []
        self._waiting: list[Gap] = []

    def record(self, record: Record) -> None:
        named = {f"input_{at}": one for at, one in enumerate(record.inputs)} | {
            f"output_{at}": one for at, one in enumerate(record.outputs)
        }
        row = {"kind": "record", **_told(record), "seconds": "", "reason": ""}
        row |= {f"{name}[{at}]": value for name, one in named.items() for at, value in enumerate(one.ravel().tolist())}
        if not self._columns:
            self._columns = list(row)
            self._file.add(_row(self._columns))
            for gap in self._waiting:
                self.gap(gap)
        self._file.add(_row([row.get(column, "") for column in self._columns]))

    def gap(self, gap: Gap) -> None:
        if not self._columns:
            self._waiting.append(gap)  # what columns there are is known with the first record
            return
        told = _gap_told(gap)
        row = told | {"sequence": told["before"]}
        self._file.add(_row([row.get(column, "") for column in self._columns]))

    def close(self) -> None:
        self._file.close()


class _Npz:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = _Appended(_journal(path))
        self._made_at, self._took = 0.0, 0.0  # so the first record makes it

    def record(self, record: Record) -> None:
        arrays = [*record.inputs, *record.outputs]
        head = {**_told(record), "seconds_since_1970": record.time, "inputs": len(record.inputs)}
        head["arrays"] = [[one.dtype.str, list(one.shape)] for one in arrays]
        self._add(head, b"".join(np.ascontiguousarray(one).tobytes() for one in arrays))

    def gap(self, gap: Gap) -> None:
        self._add(_gap_told(gap) | {"seconds_since_1970": gap.time}, b"")

    def _add(self, head: Mapping[str, Any], data: bytes) -> None:
        entry = json.dumps(head).encode() + b"\n" + data
        self._journal.add(_HEAD.pack(len(entry), zlib.crc32(entry)) + entry)
        if time.monotonic() - self._made_at > max(_SHARE * self._took, _SOONEST_S):
            self._make()

    def _make(self) -> None:
        start = time.monotonic()
        _make_npz(self._path, list(_entries(_journal(self._path))))
        self._made_at = time.monotonic()
        self._took = self._made_at - start

    def close(self) -> None:
        self._journal.close()
        self._make()
        _journal(self._path).unlink()


def _make_npz(path: Path, entries: list[Record | Gap]) -> None:
    try:
        write_whole(path, npz(_arrays(entries)))
    except OSError as error:  # the journal stays
        what = f"cannot be made: {error.strerror}; {len(entries)} entries are in {_journal(path).name}"
        raise EtError(
            what, where=str(path), hint=f"free some room, then `etexport capture --recover {path}`"
        ) from error


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


def _entries(journal: Path) -> Iterator[Record | Gap]:
    """What a journal holds, up to an entry that was broken off."""
    with journal.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            size, crc = _HEAD.unpack(head)
            entry = file.read(size)
            if len(entry) < size or zlib.crc32(entry) != crc:
                return
            line, _, data = entry.partition(b"\n")
            yield _entry(json.loads(line), data)


def _entry(told: Mapping[str, Any], data: bytes) -> Record | Gap:
    if told.get("kind") == "gap":
        return Gap(told["before"], told["seconds_since_1970"], told["seconds"], told["reason"])
    arrays, at = [], 0
    for dtype, shape in told["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(data, dtype, count, at).reshape(shape))
        at += count * np.dtype(dtype).itemsize
    inputs = told["inputs"]
    return Record(
        told["sequence"], told["seconds_since_1970"], told["board"], int(told["program_hash"], 16), told["boot"],
        told["run"], tuple(arrays[:inputs]), tuple(arrays[inputs:]),
    )  # fmt: skip


def _arrays(entries: list[Record | Gap]) -> dict[str, Array]:
    records = [entry for entry in entries if isinstance(entry, Record)]
    gaps = [entry for entry in entries if isinstance(entry, Gap)]
    arrays: dict[str, Array] = {}
    if records and all(len(record.inputs) == len(records[0].inputs) for record in records):
        arrays |= {
            f"input_{at}": np.stack(column)
            for at, column in enumerate(zip(*(record.inputs for record in records), strict=True))
        }
    arrays |= {
        f"output_{at}": np.stack(column)
        for at, column in enumerate(zip(*(record.outputs for record in records), strict=True))
    }
    return arrays | {
        "sequence": np.array([record.sequence for record in records], np.int64),
        "time": np.array([record.time for record in records], np.float64),
        "board": np.array([record.board for record in records], np.str_),
        "program_hash": np.array([record.program_hash for record in records], np.uint64),
        "boot": np.array([record.boot for record in records], np.int64),
        "run": np.array([record.run for record in records], np.int64),
        "gap_before": np.array([gap.before for gap in gaps], np.int64),
        "gap_time": np.array([gap.time for gap in gaps], np.float64),
        "gap_seconds": np.array([gap.seconds for gap in gaps], np.float64),
        "gap_reason": np.array([gap.reason for gap in gaps], np.str_),
    }


def _told(record: Record) -> dict[str, Any]:
    return {
        "sequence": record.sequence, "time": _clock(record.time), "board": record.board,
        "program_hash": f"{record.program_hash:016x}", "boot": record.boot, "run": record.run,
    }  # fmt: skip


def _gap_told(gap: Gap) -> dict[str, Any]:
    return {
        "kind": "gap",
        "before": gap.before,
        "time": _clock(gap.time),
        "seconds": round(gap.seconds, 3),
        "reason": gap.reason,
    }


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _row(values: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
