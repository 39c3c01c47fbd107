"""Every tool with its version: what is missing, what that costs, and the command that mends it."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

EXIT_MISSING = 5


@dataclass(frozen=True)
class Tool:
    """`found` is a version, or "" where it is missing; `cost` says what cannot be done without it; `needed` by some
    board or step."""

    name: str
    found: str
    cost: str
    mend: str
    needed: bool = True


EXAMPLE = "etexport doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> int:
    tools = [_python(), *_packages(), *_added(), *_programs()]
    if args.json:
        print(json.dumps([asdict(tool) for tool in tools], indent=1))
    else:
        _print(tools)
    return EXIT_MISSING if any(tool.needed and not tool.found for tool in tools) else 0


def _print(tools: list[Tool]) -> None:
    width = max(len(tool.name) for tool in tools)
    for tool in tools:
        print(
            f"{tool.name:{width}}  {tool.found or 'MISSING' if tool.needed else tool.found or 'not there (optional)'}"
        )
    reasons: dict[tuple[str, str, bool], list[str]] = {}
    for tool in tools:
        if not tool.found:
            reasons.setdefault((tool.cost, tool.mend, tool.needed), []).append(tool.name)
    for (cost, mend, needed), names in reasons.items():
        print(f"\nmissing{'' if needed else ', which is fine'}: {', '.join(names)}\n  costs: {cost}\n  mend:  {mend}")
    if not reasons:
        print("\nnothing is missing")


def _python() -> Tool:
    good = sys.version_info >= (3, 11)
    return Tool(
        "python",
        sys.version.split()[0] if good else "",
        f"everything: {sys.executable} is too old",
        "install Python 3.11 or newer",
    )


COSTS = {
    "": "`export` and the stages after it",
    "examples": "the example `digits`, which is the demo",
    "dev": "the tests and checks of a clone",
    "sweep": "`etexport sweep`",
    "prove": "the planner `etexport.plan.prove:prove`",
}
"""What is lost without a dependency, by the extra that brings it ("": every installation)."""


def _packages() -> list[Tool]:
    """The pinned dependencies of pyproject.toml, or of the installed distribution."""
    found = []
    for requirement, extra in _requirements():
        name, _, pinned = requirement.partition("==")
        try:
            version = importlib.metadata.version(name.partition("[")[0])
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if version and pinned and version.partition("+")[0] != pinned:
            version = f"{version} (pinned: {pinned})"
        found.append(
            Tool(name, version, COSTS.get(extra, f"the extra {extra}"), _pip(requirement, extra), needed=not extra)
        )
    return found


def _pip(requirement: str, extra: str) -> str:
    """In a clone where `sconsw` has not come to an end with the environment, it makes or completes it."""
    clone = Path(__file__).parents[2]
    if extra != "prove" and (clone / "sconsw").is_file() and not (clone / ".venv" / "etexport.stamp").is_file():
        return "./sconsw --help"
    return f"{sys.executable} -m pip install '{requirement}'"


def _requirements() -> list[tuple[str, str]]:
    """Each requirement with the extra that it belongs to, "" for those of every installation."""
    import tomllib

    path = Path(__file__).parents[2] / "pyproject.toml"
    if path.is_file():
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        groups = {"": project["dependencies"], **project["optional-dependencies"]}
        return [(requirement, extra) for extra, group in groups.items() for requirement in group]
    try:
        listed = importlib.metadata.requires("etexport") or []
    except importlib.metadata.PackageNotFoundError:
        listed = []
    parts = [requirement.partition(";") for requirement in listed]
    return [(name.strip(), marker.partition("extra ==")[2].strip(" '\"")) for name, _, marker in parts]


def _added() -> list[Tool]:
    """What installed packages add; where one cannot be used, most verbs stop with the same words."""
    from etexport.errors import EtError
    from etexport.resources import declared, package

    found = []
    for group, check in {
        "etexport.boards": _read_boards,
        "etexport.kernels": _read_kernels,
        "etexport.passes": _read_passes,
        "etexport.backends": _read_backends,
    }.items():
        try:
            check()
            found += [Tool(f"{group}: {entry.name}", package(entry), "", "") for entry in declared(group)]
        except ImportError:
            continue  # numpy is missing, which is said above
        except EtError as error:
            found.append(
                Tool(
                    group,
                    "",
                    f"most verbs: {error.where}: {error.what}",
                    error.hint or "mend or uninstall that package",
                )
            )
    return found


def _read_boards() -> None:
    from etexport.board import board_files

    board_files()


def _read_kernels() -> None:
    from etexport.kernel.library import load_ops

    load_ops()


def _read_passes() -> None:
    from etexport.passes.pipeline import installed

    installed()


def _read_backends() -> None:
    from etexport.delegate import load_backends

    load_backends()


def _programs() -> list[Tool]:
    """What the boards need, each program with the boards that need it; then what people like to have."""
    from etexport.board import board_files, load_board
    from etexport.errors import EtError

    boards, wrong = [], []
    with contextlib.suppress(EtError):  # a package's, which `_added` tells
        for name, path in board_files().items():
            try:
                boards.append(load_board(name))
            except EtError as error:
                wrong.append(Tool(f"board {name}", "", f"{name}: {error}", f"mend {path}"))
    needs: dict[str, tuple[str, list[str]]] = {}
    others: dict[str, tuple[str, list[str]]] = {}
    for board in boards:
        needs.setdefault(f"{board.toolchain.prefix}g++", (board.toolchain.package, []))[1].append(board.name)
        if board.simulator is not None and "{" not in board.simulator.program:
            tools = needs if board.simulator.kind == "qemu" else others
            tools.setdefault(board.simulator.program, (board.simulator.package, []))[1].append(board.name)
    found = [
        Tool(program, _version(program), f"the boards {', '.join(names)}", _apt(package, program))
        for program, (package, names) in needs.items()
    ]
    optional = (
        ("gdb-multiarch", "looking into a running board by hand", "gdb-multiarch"),
        *((program, f"simulating {', '.join(names)}", package) for program, (package, names) in others.items()),
        ("openocd", "flashing real boards", "openocd"),
    )
    return [
        *found,
        *wrong,
        *(
            Tool(program, _version(program), cost, _apt(package, program), needed=False)
            for program, cost, package in optional
        ),
    ]


def _apt(package: str, program: str) -> str:
    return f"sudo apt-get install --no-install-recommends {package}" if package else f"put {program} on PATH"


def _version(program: str) -> str:
    """The first number that `--version` says; "" where the program is not there or does not answer."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    line = next(iter((said.stdout or said.stderr).splitlines()), "")
    number = re.search(r"\d+\.\d+(\.\d+)*", line)
    return number[0] if number else line or "there"
