"""Text from a board, a character at a time: `python generate.py qemu://qemu_mps2_an386?elf=FIRMWARE.elf`, or the serial
port of a real one. What the board gives is what it is given next; its cache stays there.
"""

from __future__ import annotations

import argparse
import sys

from model import LENGTH, PROMPT, codes

import etexport
from etexport.errors import EtError


def generate(url: str, prompt: str = PROMPT) -> str:
    """The prompt and what follows, up to LENGTH characters; the board has not been asked since its reset."""
    text = prompt
    with etexport.Board(url) as board:
        for at in range(LENGTH - 1):
            character, _scores = board.run(codes(text[at]))
            if at + 1 == len(text):
                text += chr(int(character[0]))
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Text from a board, a character at a time.")
    parser.add_argument("url", help="qemu://BOARD?elf=FILE, host://host?elf=FILE, or a serial port")
    try:
        print(generate(parser.parse_args().url))
    except EtError as error:
        sys.exit(f"error: {error}")
