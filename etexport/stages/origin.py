"""What a build folder was made of, as `build.json` notes it, and what models and files are called."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from etexport.alone import alone_in
from etexport.artifacts.files import opened
from etexport.artifacts.memory import read_memory
from etexport.artifacts.records import read_record, write_record
from etexport.board import load_board
from etexport.errors import BoardError, ModelError
from etexport.project import LISTS, NOTHING, Project, at, joined

QUANTIZATIONS = ("float32", "int8-weights", "int4-weights", "bf16-weights", "fp16-weights", "int8")


def model_name(path: Path, given: str | None) -> str:
    """`given`, or the name in the path: the file's own unless it is `model.pte`, then its folder's without the
    quantisation.

    What no screen can show (line ends, bytes that are no text) stands in it as U+FFFD."""
    name = given or _name_in(path)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _name_in(path: Path) -> str:
    if path.stem != "model":
        return path.stem
    folder = path.resolve().parent.name
    return (
        next((folder.removesuffix(f"-{word}") for word in QUANTIZATIONS if folder.endswith(f"-{word}")), folder)
        or "model"
    )


def alone_there(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a build folder while the block runs; where there is none nothing is made, and the error about it is the
    verb's."""
    return alone_in(folder) if folder.is_dir() else contextlib.nullcontext()


@dataclass(frozen=True)
class Origin:
    """`build.json`: what a folder was built from and for, as paths from the folder; a board without .toml is a name."""

    program: str
    board: str


def note_origin(folder: Path, program: Path, board: str) -> None:
    """Leave `build.json`, so that later verbs need the folder only."""
    origin = Origin(
        os.path.relpath(program, folder), os.path.relpath(board, folder) if board.endswith(".toml") else board
    )
    write_record(folder / "build.json", origin)


def _origin(folder: Path, option: str) -> Origin:
    path, hint = folder / "build.json", f"give {option}; `etexport build` notes it in the folder"
    if not path.is_file():
        raise ModelError("it is not known what this was built from", where=str(path), hint=hint)
    return read_record(path, Origin, hint)


def program_of(folder: Path, given: Path | None, option: str = "--program") -> Path:
    """`given`, or what the folder was built from; `option` is what a person would give instead."""
    return existing(given or Path(os.path.normpath(folder / _origin(folder, option).program)))


def board_of(folder: Path, given: str | None) -> str:
    """`given`, or what the folder was built for: as `etexport build` noted it, or by the name that the generated files
    have. BoardError where these have another board than `given`: an image would be written to a chip that it is not
    for."""
    built = read_memory(folder).board if (folder / "memory.json").is_file() else ""
    if given:
        if built and (name := load_board(given).name) != built:
            hint = "leave --board out, or build for this one"
            raise BoardError(f"was built for {built}, not for {name}", where=str(folder), hint=hint)
        return given
    if built and not (folder / "build.json").is_file():
        return built
    board = _origin(folder, "--board").board
    return os.path.normpath(folder / board) if board.endswith(".toml") else board


def project_of(program: Path, given: Project = NOTHING) -> Project:
    """Whose kernels, passes and delegates a program was exported with, as is noted beside it, and those given."""
    beside = program.with_suffix(".npz")
    if beside == program or not beside.is_file():
        return given
    with opened(beside) as arrays:
        lists = {name: arrays[name].tolist() for name in LISTS if name in arrays}
    return joined(at(beside.parent, lists), given)


def rules_of(program: Path, board: str) -> dict[str, str]:
    """What lies in which region of a board, as the script says: `memory_rules` beside the program."""
    beside = program.with_suffix(".npz")
    if beside == program or not beside.is_file():
        return {}
    with opened(beside) as arrays:
        rows = arrays["memory_rules"].tolist() if "memory_rules" in arrays else []
    return {name: region for of, name, region in rows if of == board}


def existing(path: Path) -> Path:
    """The path; ModelError where there is no file."""
    if not path.is_file():
        raise ModelError("no such file", where=str(path))
    return path
