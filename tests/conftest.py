"""What all tests share: which of them a worker gets as a whole, and what is made once for all of its workers."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etexport.board import Board
from etexport.errors import EtError
from etexport.kernel.library import load_ops
from etexport.resources import root
from etexport.toolchain import gcc
from tests.desk import Desk, desk_of
from tests.hardware_map import CAPABILITIES, Entry, read_map, unfit
from tests.installed import Installed, install

if TYPE_CHECKING:
    from tests.frontend.nets import Net

if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):  # hundreds of processes would each compile us anew
    sys.dont_write_bytecode = False
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of torch wait by turning, on cores that other workers want
load_ops()  # makes the kernel folders packages, `etexport_kernels.<family>`, which tests of their packing import

LONG = ("scons", "examples", "program", "operators")
"""Folders whose tests take long: they come first, so that no worker is left with one of them when the others have
ended."""

QUICK = re.compile(
    r"passes/|plan/test_(files|picture)|judge/test_compare|program/test_(pte|verify|schema|wire)|test_(imports|tree|op|phases|packing|rounding)\.py"
)
"""Files, from their beginning, of the tier for editing (`pytest -m quick`): no compiler, no simulator, no network
exported."""

_MAP: pytest.StashKey[tuple[Entry, ...]] = pytest.StashKey()

Once = Callable[[str, Callable[[Path], object]], Path]
Int8Net = Callable[..., Path]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Before `-m` chooses, which it does as soon as all are collected."""
    if QUICK.match(str(item.path.relative_to(Path(__file__).parent))):
        item.add_marker(pytest.mark.quick)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("a board", "the tests of boards on one that is attached, or on another simulator")
    group.addoption("--board", metavar="NAME", help="only the tests that run on a board, on this one")
    group.addoption(
        "--port", default="", metavar="URL", help="its serial port, as `etexport run` takes it (default: its simulator)"
    )
    group.addoption(
        "--hardware-map", type=Path, metavar="FILE", help="the same on each board that a file lists: docs/hardware.md"
    )
    group.addoption("--flash-tool", default="", metavar="NAME", help="what writes it, as `etexport flash --tool`")
    group.addoption("--flash-at", default="", metavar="WHERE", help="as `etexport flash --at`")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "on_board(boards=, needs=): runs on the board of --board, or on those of --hardware-map that it may have",
    )
    if config.getoption("--hardware-map"):
        if config.getoption("--board"):
            raise pytest.UsageError("--board and --hardware-map: one of both")
        try:
            config.stash[_MAP] = read_map(config.getoption("--hardware-map"))
        except EtError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With a map a test runs on each of its boards; on one that it may not have, or that lacks what it needs, it is
    skipped and says so."""
    entries = metafunc.config.stash.get(_MAP, ())
    marker = metafunc.definition.get_closest_marker("on_board")
    if not entries or marker is None or "desk" not in metafunc.fixturenames:
        return
    boards, needs = marker.kwargs.get("boards", ()), marker.kwargs.get("needs", ())
    assert set(marker.kwargs) <= {"boards", "needs"} and set(needs) <= set(CAPABILITIES), marker
    given = [(entry, unfit(entry, boards, needs)) for entry in entries]
    params = [
        pytest.param(entry, id=str(entry), marks=[pytest.mark.skip(reason=why)] if why else []) for entry, why in given
    ]
    metafunc.parametrize("desk", params, indirect=True, scope="session")


@pytest.fixture(scope="session")
def desk(request: pytest.FixtureRequest) -> Desk:
    """The board of --board, or one of --hardware-map."""
    option = request.config.getoption
    if isinstance(entry := getattr(request, "param", None), Entry):
        try:
            return desk_of(entry.name, entry.url, entry.flash_tool, entry.flash_at)
        except EtError as error:
            pytest.fail(str(error), pytrace=False)
    if not option("--board"):
        pytest.skip("for an attached board: pytest --board NAME --port URL")
    return desk_of(option("--board"), option("--port"), option("--flash-tool"), option("--flash-at"))


@pytest.fixture(autouse=True)
def _told_which_board(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """JUnit says of each test on which board it was."""
    if request.config.getoption("--board"):
        record_property("board", request.config.getoption("--board"))
    elif request.config.stash.get(_MAP, ()) and "desk" in (params := request.node.callspec.params):
        record_property("board", str(params["desk"]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if config.getoption("--board") or config.getoption("--hardware-map"):
        others = [item for item in items if item.get_closest_marker("on_board") is None]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.get_closest_marker("on_board") is not None]

    def order(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return LONG.index(folder) if folder in LONG else len(LONG)

    items.sort(key=order)


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there now stays: tests, and torch, which Python's collector would walk again and again


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> object:
    """In place of `--dist loadgroup`, which marks tests in an attribute that pytest 9.2 no longer reads, and so groups
    nothing."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config)


def group_of(nodeid: str) -> str:
    """What a worker gets as a whole: a file, whose tests share fixtures, or what operators' tests of any file do with
    one kernel folder, whose cases are drawn once."""
    file, _, test = nodeid.partition("::")
    if Path(file).parent.name == "operators":
        ops = load_ops().ops
        families = {op.family for op in ops.values()}
        for word in re.split(r"[\[\]-]", test):
            if word in families or word in ops:
                return f"operators/{word if word in families else ops[word].family}"
    return file


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Once:
    """once(name, fill): the folder of that name, which fill(folder) has filled for the first test of any worker that
    asked."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if hasattr(request.config, "workerinput") else own) / "once"

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        shared.mkdir(exist_ok=True)
        folder, aside = shared / name, shared / f"{name}.part"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it when a worker ends, however that ends
            if not folder.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                fill(aside)
                aside.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def installed(once: Once) -> Installed:
    """The wheel in an environment, which must not be moved: it lies beside the folder that says that it is there."""
    here = once("wheel", lambda folder: install(folder.with_name("environment")))
    return Installed(here.with_name("environment"))


@pytest.fixture(scope="session", autouse=True)
def _firmware_compiled_once(once: Once) -> Iterator[None]:
    """A file of the firmware is compiled once by each command, for all workers; what belongs to one program is compiled
    each time. The command then looks into an empty folder where that of the generated code was, so that no object could
    be of another program."""
    compile_or_link, firmware = gcc.run, root() / "firmware"

    def run(command: Sequence[str], board: Board, cwd: Path | None = None) -> None:
        source = command[command.index("-c") + 1] if "-c" in command else ""
        if f"-I{firmware}" not in command or not source.endswith(".cpp") or not Path(source).is_relative_to(firmware):
            compile_or_link(command, board, cwd)
            return
        target, generated = (
            command[command.index("-o") + 1],
            command[command.index(f"-I{firmware}") - 1].removeprefix("-I"),
        )
        words = ["TARGET" if word == target else word.replace(generated, "GENERATED") for word in command]

        def fill(folder: Path) -> None:
            names = {"TARGET": str(folder / "made.o")}
            compile_or_link([names.get(word, word.replace("GENERATED", str(folder))) for word in words], board, cwd)

        name = hashlib.sha256("\0".join((*words, str(Path.cwd()))).encode()).hexdigest()[:16]
        for made in once(f"firmware-{name}", fill).iterdir():  # made.o, and made.su with the stack of each function
            shutil.copyfile(made, Path(target).with_suffix(made.suffix))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcc, "run", run)
        yield


@pytest.fixture(scope="session")
def int8_net(once: Once) -> Int8Net:
    """int8_net(net, more): the `.pte` of the network in int8, for stock runtimes too, with its `.npz` and its script
    beside it."""

    def made(net: Net, more: str = "") -> Path:
        from etexport.frontend import export  # imports torch, which most tests do without
        from tests.frontend.nets import net_script

        def fill(folder: Path) -> None:
            export(net_script(folder, net, more), folder / "model.pte", stock=True, quantize="int8")

        return once(hashlib.sha256(repr((net, more)).encode()).hexdigest()[:16], fill) / "model.pte"

    return made


@pytest.fixture(scope="session")
def rp2040js(once: Once) -> Path:
    """The folder for NODE_PATH that has npm's rp2040js, a simulator of the Pico's chip: what users install by hand."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: rp2040js runs in node")

    def install(folder: Path) -> None:
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "rp2040js@1.4.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            (folder / "why").write_text(done.stderr)

    folder = once("rp2040js", install)
    if (folder / "why").is_file():
        pytest.skip(f"npm cannot install rp2040js: {(folder / 'why').read_text().strip().splitlines()[-1]}")
    return folder / "node_modules"
