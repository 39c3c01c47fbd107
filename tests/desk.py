"""The board of `pytest --board NAME --port URL`: each firmware is written to it before it runs there. Without a port
its simulator runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etexport.board import Board, load_board
from etexport.device import Run, Sample, run
from etexport.device.flash import confirm, step_of, write
from etexport.device.session import Line


@dataclass(frozen=True)
class Desk:
    board: Board
    port: str
    tool: str
    at: str

    @property
    def is_attached(self) -> bool:
        return bool(self.port) or self.board.simulator is None

    def run(self, elf: Path, board: Board, inputs: Sequence[Sample], **options: Any) -> Run:
        """As `etexport.device.run`, on what is attached."""
        if not self.is_attached:
            return run(elf, board, inputs, **options)
        write(step_of(elf, board, wanted=self.tool, place=self.at))
        confirm(elf, board, Line(self.port), wait_s=20.0)
        return run(elf, board, inputs, url=self.port, **options)


def desk_of(name: str, port: str, tool: str, at: str) -> Desk:
    board = load_board(name)
    if "host" in board.features and port:
        pytest.skip("the host's process is not written to a port")
    return Desk(board, port, tool, at)
