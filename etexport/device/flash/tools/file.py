"""Writes a raw flash file, as QEMU boots from: `-drive if=pflash,unit=0,format=raw,file=FLASH`. Bytes beside the image
stay as they are."""

from __future__ import annotations

from pathlib import Path

from etexport.board import Memory
from etexport.device.flash.tool import CHIP, VERIFY, WRITE, Job, Tool, failure
from etexport.errors import BoardError


def command(job: Job) -> tuple[str, ...]:
    if not job.place:
        raise BoardError("it has to be said which file", where=job.board.name, hint="--at FLASH.img")
    return ("write", str(job.image), f"to offset 0x{_offset(job):x} of", job.place)


def _offset(job: Job) -> int:
    return job.address - _flash(job).address


def _flash(job: Job) -> Memory:
    return next(region for region in job.board.memory if region.kind == "flash")


def act(job: Job) -> None:
    path, region, content = Path(job.place), _flash(job), job.image.read_bytes()
    try:
        if path.is_file() and path.stat().st_size != region.size:
            raise failure(
                TOOL, job, CHIP, f"{path} has {path.stat().st_size:,} bytes, the board's flash {region.size:,}"
            )
        if not path.is_file():
            path.write_bytes(b"\xff" * region.size)
        with path.open("r+b") as file:
            file.seek(_offset(job))
            file.write(content)
            file.flush()
            file.seek(_offset(job))
            there = file.read(len(content))
    except OSError as error:
        raise failure(TOOL, job, WRITE, f"{path}: {error.strerror}") from error
    if there != content:
        raise failure(
            TOOL, job, VERIFY, f"{path}: {sum(a != b for a, b in zip(there, content, strict=False)):,} bytes differ"
        )


TOOL = Tool("file", "bin", command, act=act)
