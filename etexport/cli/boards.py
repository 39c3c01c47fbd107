"""List the boards, or tell how firmware for some of them is compiled."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", nargs="*", help="only these")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--build", action="store_true", help="with --json: compiler, flags and sources too")


def main(args: argparse.Namespace) -> int:
    from etexport.board import board_names, load_board

    boards = [load_board(name) for name in args.board or board_names()]
    if args.json:
        names = args.board or board_names()
        print(json.dumps({name: _plain(name, board, args.build) for name, board in zip(names, boards, strict=True)}, indent=1))
        return 0
    width = max(len(board.name) for board in boards)
    for board in boards:
        memory = ", ".join(f"{entry.name} {entry.size // 1024:,} KB" for entry in board.memory)
        print(f"{board.name:{width}}  {board.core:12}  {memory:36}  {board.description}")
    return 0


def _plain(name: str, board: object, build: bool) -> dict[str, object]:
    import dataclasses

    from etexport.board import Board, board_files

    assert isinstance(board, Board)
    found = {field.name: getattr(board, field.name) for field in dataclasses.fields(board)}
    found |= {"features": sorted(board.features), "argument": name, "file": name if name.endswith(".toml") else str(board_files()[name])}
    found |= {
        name: dataclasses.asdict(value) for name, value in found.items() if dataclasses.is_dataclass(value) and not isinstance(value, type)
    }
    found["defines"] = dict(board.defines)
    found["memory"] = [dataclasses.asdict(memory) for memory in board.memory]
    if build:
        found["build"] = _build(board)
    return found


def _build(board: object) -> dict[str, object]:
    """What a build tool needs. Words in braces are for it to fill in: names of files, for `{objects}` as many as there are."""
    from etexport.board import Board, firmware_defines, firmware_sources
    from etexport.resources import kernel_folders, root
    from etexport.toolchain import gcc

    assert isinstance(board, Board)
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
        "include": [str(path) for path in (root() / "firmware", *kernel_folders())],
        "maps": gcc.path_maps(board, Path(), kernel_folders()),
        "sources": [str(path) for path in firmware_sources(board)],
        "generated": gcc.GENERATED,
    }
