"""List the serial ports, with their USB ids, the boards that have these, and who answers HELLO."""

from __future__ import annotations

import argparse
import json

from etexport.cli.options import positive, seconds

EXAMPLE = "etexport ports"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url", nargs="*", metavar="URL", help="ports to ask besides those of this machine, as socket://HOST:PORT"
    )
    parser.add_argument(
        "--baud", type=positive, metavar="N", help="bits a second (default: what the board's file says, 115200)"
    )
    parser.add_argument(
        "--no-ask", action="store_true", help="do not open them: some boards start again when their port is opened"
    )
    parser.add_argument(
        "--wait", type=seconds, default=2.0, metavar="S", help="seconds that each may take to answer (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def main(args: argparse.Namespace) -> int:
    from etexport.board import board_names, load_board
    from etexport.device.ports import survey

    boards = [load_board(name) for name in board_names()]
    seen = survey(boards, args.url, baud=args.baud or 0, ask_s=0.0 if args.no_ask else args.wait)
    if args.json:
        print(json.dumps([_plain(one) for one in seen], indent=1))
        return 0
    if not seen:
        print("no serial ports")
        return 0
    width = max(len(one.port.device) for one in seen)
    for one in seen:
        about = "  ".join(filter(None, (one.port.usb, one.port.serial_number, one.port.description)))
        print(f"{one.port.device:{width}}  {about or 'not on USB'}")
        if one.boards:
            print(f"{'':{width}}  may be {', '.join(one.boards)}")
        if one.answer:
            print(f"{'':{width}}  {'answers: ' if one.hello else ''}{one.answer}")
    return 0


def _plain(one: object) -> dict[str, object]:
    from dataclasses import asdict

    from etexport.device.ports import Seen

    assert isinstance(one, Seen)
    hello = None
    if one.hello is not None:
        told = one.hello
        hello = {
            "board": told.board, "program": told.program, "program_hash": f"{told.program_hash:016x}",
            "image_crc": f"{told.image_crc:08x}", "boot": told.boot, "runs": told.runs, "reset_cause": told.reset_cause,
            "link": told.version,
        }  # fmt: skip
    return asdict(one.port) | {"boards": list(one.boards), "hello": hello, "answer": one.answer}
