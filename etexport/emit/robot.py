"""A Robot test for `renode-test`: the firmware of a folder, run in Renode on the model's samples, its outputs compared
with PyTorch's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from etexport.board import Board, board_names, load_board
from etexport.errors import BoardError
from etexport.resources import root

_TIMEOUT_S = 3600
_INCLUDE = re.compile(r"include @([^;]+)")
_BESIDE = re.compile(r"\$ORIGIN/([\w.-]+)")


def robot_files(
    board: Board, argument: str, folder: Path, program: Path, reference: Path, *, name: str, samples: int | None
) -> Mapping[str, bytes]:
    """What the test needs beside `firmware.elf`, by name: `firmware.robot`, the script that starts the board, and the
    platform that this names. `argument` is the board as `--board` takes it. Paths in it are relative to `folder`;
    BoardError for another simulator."""
    script = _script(board)
    text = script.read_text(encoding="utf-8")
    files = {script.name: text.encode()}
    files |= {beside: (script.parent / beside).read_bytes() for beside in _BESIDE.findall(text)}
    environment = Environment(
        loader=PackageLoader("etexport.emit"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    own = argument.endswith(".toml")
    made = environment.get_template("firmware.robot.j2").render(
        title=f"{_words(name)} On {_words(board.name)}",
        board=f"${{CURDIR}}/{_path(Path(argument), folder)}" if own else _words(argument),
        program=_path(program, folder),
        reference=_path(reference, folder),
        script=_words(script.name),
        samples=samples,
        timeout_s=_TIMEOUT_S,
    )
    return files | {"firmware.robot": made.encode()}


def _script(board: Board) -> Path:
    """The file that the board's command line includes."""
    if board.simulator is None or board.simulator.kind != "renode":
        hint = f"those that do: {', '.join(name for name in board_names() if _runs_in_renode(name))}"
        raise BoardError("does not run in Renode", where=board.name, hint=hint)
    told = next((found for word in board.simulator.arguments if (found := _INCLUDE.search(word))), None)
    path = Path(told[1].strip().replace("{renode}", str(root() / "boards" / "renode"))) if told else None
    if path is None or not path.is_file():
        raise BoardError(
            "includes no script that is there",
            where=board.name,
            hint='"include @{renode}/NAME.resc" in simulator.arguments',
        )
    return path


def _runs_in_renode(name: str) -> bool:
    simulator = load_board(name).simulator
    return simulator is not None and simulator.kind == "renode"


def _path(path: Path, folder: Path) -> str:
    return _words(Path(os.path.relpath(path, folder)).as_posix())


def _words(text: str) -> str:
    """Text as one cell: Robot takes two blanks for the next one, $ and { for a variable, # for a remark, = for a named
    argument."""
    return re.sub(r"[\\$@&%#={}]|(?<= ) ", lambda found: rf"\{found[0]}", text)
