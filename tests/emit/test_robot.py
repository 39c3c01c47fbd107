"""The Robot test of a model in Renode, read: only keywords that exist, files that are there, paths that move with the
folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etexport.__main__ import main
from etexport.board import board_names, load_board
from etexport.emit.robot import robot_files
from etexport.errors import BoardError
from etexport.resources import root

IN_RENODE = [
    name
    for name in board_names()
    if (simulator := load_board(name).simulator) is not None and simulator.kind == "renode"
]
KEYWORDS = {
    "Evaluate", "Log", "Should Be Equal As Integers", "RETURN",  # of Robot itself
    "Run Process", "Replace String",  # of its libraries Process and String
    "Execute Command", "Setup", "Teardown", "Reset Emulation", "Test Teardown",  # of Renode's ${RENODEKEYWORDS}
}  # fmt: skip
SECTIONS = ("Comments", "Settings", "Variables", "Test Cases", "Keywords")


def made(name: str, **options: int) -> dict[str, bytes]:
    arguments = (Path("a/out"), Path("a/model/x.pte"), Path("a/model/x.npz"))
    return dict(robot_files(load_board(name), name, *arguments, name="x", samples=options.get("samples")))


def test_the_file_is_the_one_that_was_read() -> None:
    """A golden file: what changes in it is seen by whoever changes the template. It has passed and failed under Robot
    Framework 7.5."""
    assert (
        made("renode_virt_rv32", samples=4)["firmware.robot"].decode()
        == (Path(__file__).with_name("firmware.robot")).read_text()
    )


@pytest.mark.parametrize("name", IN_RENODE)
def test_every_board_in_renode_has_one(name: str) -> None:
    files = made(name)
    text = files["firmware.robot"].decode()
    beside = set(re.findall(r"\$\{CURDIR\}/([\w.-]+)(?=    |$)", text, re.MULTILINE)) - {"firmware.elf"}
    assert beside and beside <= set(files), "the script lies beside it"
    for file, content in files.items():
        if file != "firmware.robot":
            assert content == (root() / "boards" / "renode" / file).read_bytes(), (
                "as tests/device/test_renode.py checks it"
            )
            for platform in re.findall(rb"\$ORIGIN/([\w.-]+)", content):
                assert platform.decode() in files
    assert str(root()) not in text and re.search(rf"^\$\{{BOARD\}} +{name}$", text, re.MULTILINE)
    assert "--samples" not in text


def test_it_says_what_robot_knows() -> None:
    text = made("renode_virt_rv32")["firmware.robot"].decode()
    assert tuple(re.findall(r"^\*\*\* (.+) \*\*\*$", text, re.MULTILINE)) == SECTIONS
    own = re.findall(r"^(?! |\*|\$|#)(\S.*)$", text.split("*** Keywords ***")[1], re.MULTILINE)
    assert own == ["Start Firmware", "Outputs Should Be Those Of PyTorch", "Etexport"]
    steps = re.findall(
        r"^    (?:\$\{\w+\}= +)?(\w[\w ]*?)(?:    .*)?$", text.split("*** Test Cases ***")[1], re.MULTILINE
    )
    assert len(steps) > 10 and set(steps) <= KEYWORDS | set(own), set(steps) - KEYWORDS - set(own)
    settings = re.findall(r"^(?:Suite|Test) (?:Setup|Teardown) +(.+)$", text, re.MULTILINE)
    assert len(settings) == 4 and set(settings) <= KEYWORDS
    assert "\t" not in text and not re.search(r" +$", text, re.MULTILINE)


def test_names_of_any_kind_stay_one_cell() -> None:
    board = load_board("renode_fe310")
    folder = Path("a/b")
    files = robot_files(
        board, "../my  board #1.toml", folder, Path("a/m{1}/x.pte"), Path("a/m{1}/x.npz"), name="$x  y", samples=None
    )
    text = files["firmware.robot"].decode()
    assert r"${CURDIR}/../m\{1\}/x.pte" in text and "\n" + r"\$x \ y On renode_fe310" + "\n" in text
    assert r"${CURDIR}/../../../my \ board \#1.toml" in text


def test_another_simulator_is_refused() -> None:
    with pytest.raises(BoardError, match=r"qemu_virt_rv32: does not run in Renode\n  hint: .*renode_virt_rv32"):
        made("qemu_virt_rv32")


def test_the_verb_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("firmware.elf", "x.pte", "x.npz"):
        (tmp_path / file).touch()
    arguments = [
        "robot",
        str(tmp_path),
        "--board",
        "renode_virt_rv32",
        "--program",
        str(tmp_path / "x.pte"),
        "--samples",
        "4",
    ]
    assert main(arguments) == 0 and "firmware.robot, virt_rv32.repl, virt_rv32.resc" in capsys.readouterr().out
    first = (tmp_path / "firmware.robot").read_bytes()
    assert main(arguments) == 0 and (tmp_path / "firmware.robot").read_bytes() == first
    (tmp_path / "firmware.elf").unlink()
    assert main(arguments) == 1 and "firmware.elf: no such file" in capsys.readouterr().err
