"""List the boards, show all that is known of one and where it was read, say how firmware for it is compiled, or draft a
new one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from etexport.board import Board
from etexport.hardware import Operation

EXAMPLE = "etexport boards st_nucleo_f446re"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "board",
        nargs="*",
        help="only these, with every value; or `import NAME.json`: the draft of a board file, from one of PlatformIO's",
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--build", action="store_true", help="with --json: compiler, flags and sources too")


def main(args: argparse.Namespace) -> int:
    from etexport.board import board_names, load_board

    if args.board[:1] == ["import"]:
        return _import(args.board[1:])

    boards = [load_board(name) for name in args.board or board_names()]
    if args.json:
        names = args.board or board_names()
        print(
            json.dumps(
                {name: _plain(name, board, args.build) for name, board in zip(names, boards, strict=True)}, indent=1
            )
        )
        return 0
    if args.board:
        print("\n\n".join("\n".join(_shown(board)) for board in boards))
        return 0
    width = max(len(board.name) for board in boards)
    for board in boards:
        memory = ", ".join(f"{entry.name} {entry.size // 1024:,} KB" for entry in board.memory)
        print(f"{board.name:{width}}  {board.core:12}  {memory:36}  {board.description}")
    return 0


def _import(files: list[str]) -> int:
    """The draft on standard output, what is missing on standard error."""
    from etexport.errors import BoardError
    from etexport.platformio import draft

    if len(files) != 1:
        raise BoardError(
            f"takes one file, not {len(files)}",
            where="boards import",
            hint="etexport boards import NAME.json > mine.toml",
        )
    text, missing = draft(Path(files[0]))
    print(text, end="")
    print("missing:", *missing, sep="\n  ", file=sys.stderr)
    return 0


def _shown(board: Board) -> Iterator[str]:
    """Every value of the board file with the place where it was read, and whether it ever ran on the board."""
    from etexport.board import source_of

    yield f"{board.name}: {board.description}"
    if board.attach is not None:
        yield f"  on the real board: {board.on_hardware or 'never'}"
    rows = [row for row in _values("", board) if row[0] not in ("name", "description", "on_hardware")]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        mark = "" if key.split(".")[0] in _OURS else f"  [{source_of(board, key) or 'not verified'}]"
        yield f"  {key:{width}}  {value}{mark}"


_OURS = ("core", "features", "arch", "uart", "stack", "toolchain", "simulator", "baud", "url")
"""Choices, which nobody reads in a manual."""


def _values(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    """Key and value of everything that a board file says; parts of a list go by their name where they have one."""
    if isinstance(value, Operation):
        yield prefix, " ".join([value.name, *(f"0x{number:08x}" for number in value.numbers)])
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            if field.name != "verified" and part not in (None, "", (), {}) and not (prefix and part == field.default):
                yield from _values(f"{prefix}.{field.name}".lstrip("."), part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _values(f"{prefix}.{key}", part)
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(part) for part in value):
        for index, part in enumerate(value):
            name = getattr(part, "name", None) if not isinstance(part, Operation) else None
            yield from _values(f"{prefix}.{index if name is None else name}", part)
    elif isinstance(value, int) and not isinstance(value, bool) and prefix.rsplit(".", 1)[-1] in _ADDRESSES:
        yield prefix, f"0x{value:08x}"
    elif isinstance(value, (tuple, frozenset)):
        yield prefix, ", ".join(map(str, sorted(value) if isinstance(value, frozenset) else value))
    else:
        yield prefix, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


_ADDRESSES = ("address", "mask", "size", "ET_UART_ADDRESS", "ET_EXIT_ADDRESS", "uf2_family")


def _plain(name: str, board: Board, build: bool) -> dict[str, object]:
    from etexport.board import board_files

    found = {field.name: _data(getattr(board, field.name)) for field in dataclasses.fields(board)}
    found |= {"argument": name, "file": name if name.endswith(".toml") else str(board_files()[name])}
    if build:
        found["build"] = _build(board)
    return found


def _data(value: object) -> object:
    """The same as JSON knows it."""
    if isinstance(value, Operation):
        return [value.name, *value.numbers]
    if dataclasses.is_dataclass(value):
        return {field.name: _data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _data(part) for key, part in value.items()}
    if isinstance(value, (tuple, frozenset)):
        return [_data(part) for part in (sorted(value) if isinstance(value, frozenset) else value)]
    return value


def _build(board: Board) -> dict[str, object]:
    """What a build tool needs. Words in braces are for it to fill in: names of files, for `{objects}` as many as there
    are."""
    from etexport.board import firmware_defines, firmware_sources
    from etexport.resources import include_folders, root
    from etexport.toolchain import gcc

    return {
        "compiler": gcc.tool(board, "g++"),
        "driver": gcc.tool(board, "gcc"),
        "objcopy": gcc.tool(board, "objcopy"),
        "assembler_flags": gcc.assembler_flags(board, "{folder}"),
        "flags": gcc.compile_flags(board),
        "defines": dict(firmware_defines(board)),
        "link": gcc.link_command(board, ["{objects}"], "{elf}", "{map}", "{script}"),
        "link_script": gcc.has_script(board),
        "images": {suffix: gcc.image_command(board, suffix, "{elf}", "{image}") for suffix in gcc.IMAGES},
        "include": [str(path) for path in (root() / "firmware", *include_folders())],
        "maps": gcc.path_maps(board, Path(), include_folders()),
        "sources": [str(path) for path in firmware_sources(board)],
        "generated": gcc.GENERATED,
    }
