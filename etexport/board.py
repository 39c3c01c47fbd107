"""What a board file `boards/<name>.toml` says, and how it is found.

One file is one board: host, QEMU machine, Renode platform or hardware. Data only; an unknown key is an error that lists
the known ones. Installed packages add boards through the entry point group `etexport.boards` (a module or package whose
folder holds `.toml` files).
"""

from __future__ import annotations

import difflib
import re
import string
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from etexport.errors import BoardError, EtError, raise_all
from etexport.hardware import (
    OPERATIONS,
    Attach,
    Clock,
    Operation,
    Pins,
    ResetCause,
    cause_words,
    impossible_attach,
    impossible_cause,
    impossible_clock,
    impossible_operation,
    words,
)
from etexport.resources import board_folders, root


@dataclass(frozen=True)
class Toolchain:
    """`prefix` goes before gcc, g++, objcopy, ... ("" for the host's own); `flags` name the core, for compiler and
    linker alike."""

    prefix: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...] = ()
    package: str = ""
    """Debian packages that bring it, separated by spaces."""


@dataclass(frozen=True)
class Memory:
    """A memory region of the linker script; `kind` is "flash" or "ram". Stack and static data lie in the first RAM.
    `cost` is what a byte read or written takes, beside that of the other RAMs (cycles, if these are known): what is
    touched most lies where it is least."""

    name: str
    kind: str
    address: int
    size: int
    cost: int = 1
    purpose: str = ""
    """For people: "code and constants", "shared with the radio"."""


@dataclass(frozen=True)
class Count:
    """What a tick of the counter is worth where it is not what `Counter` says: count = ticks * `numerator` /
    `denominator`. `still`: the counter stands still there, and nothing is counted."""

    unit: str
    numerator: int = 1
    denominator: int = 1
    still: bool = False


@dataclass(frozen=True)
class Counter:
    """What counts work on this board; count = ticks * `numerator` / `denominator`.

    `driver` is a file of `firmware/arch/<arch>/counter/` without `.cpp`, or the path of a file that ends in it.
    """

    driver: str
    unit: str
    numerator: int = 1
    denominator: int = 1
    address: int = 0


@dataclass(frozen=True)
class Simulator:
    """How the board is started: `kind` "host", "qemu", "renode" or "program" (any that takes an ELF and gives a port),
    the program and its arguments.

    `{elf}`, `{port}` (a free one, where the program does not choose), `{renode}` (the folder of that name) and
    `{device}` (etexport/device, where our own launchers are) are filled in.

    A program that opens a port of its own choice says `waiting for connection on: tcp:127.0.0.1:<port>` before it goes
    on, as QEMU does.
    """

    kind: str
    program: str
    arguments: tuple[str, ...]
    package: str = ""
    note: str = ""
    """What differs from the board: "another chip of the family, without a PLL"."""
    count: Count | None = None
    """What a tick is there; None: what `counter` says."""


@dataclass(frozen=True)
class Board:
    name: str
    description: str
    core: str
    """For people and reports: "Cortex-M4F"."""
    features: frozenset[str]
    """What kernels ask about: "arm", "riscv", "thumb2", "dsp", "fpu", "host"."""
    arch: str
    """Folder of `firmware/arch/`: startup, fault handlers, counters, exit."""
    uart: str
    """File of `firmware/uart/` without `.cpp`, or the path of a file that ends in it."""
    defines: Mapping[str, int]
    """Macros for arch and uart drivers: `ET_UART_ADDRESS`, clocks."""
    toolchain: Toolchain
    memory: tuple[Memory, ...]
    counter: Counter
    stack: int
    """Bytes that the linker script reserves at least; the build fails if the computed bound is larger."""
    simulator: Simulator | None = None
    url: str = ""
    """Serial port of real hardware, as pyserial's `serial_for_url` takes it."""
    baud: int = 115200
    """Bits a second of that port."""
    bauds: tuple[int, ...] = ()
    """Every speed that the UART and its adapter can do; of these, `baud` is the one that is used."""
    chip: str = ""
    """Folder of `firmware/chip/`: what a family of chips needs before anything else, beyond registers with fixed
    values."""
    clock: Clock | None = None
    pins: Pins | None = None
    reset_cause: tuple[ResetCause, ...] = ()
    attach: Attach | None = None
    """Of boards that exist; a machine that is only simulated has none."""
    on_hardware: str = ""
    """When and how it ran on the real board; "": never."""
    verified: Mapping[str, str] = field(default_factory=dict)
    """Where each value was read: key (`clock.setup`, `memory.flash`) -> source. A key stands for all below it; what has
    none is not verified."""


_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINKER_WORDS = frozenset(("ORIGIN", "org", "o", "LENGTH", "len", "l"))
"""What stands in the linker script's list of memories."""

FEATURES = frozenset({"arm", "thumb2", "dsp", "fpu", "riscv", "host"})
"""What our kernels ask about. Kernels of other packages may ask about more."""


# ---- finding them ----------------------------------------------------------------------------------------------------


def board_files() -> Mapping[str, Path]:
    """The file of every board that can be named, by name; BoardError where two folders have the same name."""
    found: dict[str, Path] = {}
    for folder in board_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem in found:
                raise BoardError(
                    f"two files describe the board {path.stem!r}: {found[path.stem]} and {path}", where=str(path)
                )
            found[path.stem] = path
    return found


def board_names() -> tuple[str, ...]:
    return tuple(sorted(board_files()))


def load_board(name: str) -> Board:
    """The board of this name, or of this path to a `.toml`; BoardError for what is unknown, missing, of a wrong type or
    impossible."""
    if name.endswith(".toml"):
        path = Path(name)
    else:
        files = board_files()
        if name not in files:
            raise BoardError(
                f"no board is called {name!r}",
                hint=f"{_nearest(name, files)}known: {', '.join(sorted(files))}; a path to a .toml works too",
            )
        path = files[name]
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BoardError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardError(f"is not TOML: {error}", where=str(path)) from error
    return parse_board(path.stem, table, where=path.name, folder=path.parent)


def parse_board(name: str, table: Mapping[str, Any], *, where: str, folder: Path) -> Board:
    """Check a board's table and make the Board; every mistake in it is reported at once. `where` names the file, which
    lies in `folder`: drivers of the board's own are there."""
    errors: list[EtError] = []
    board = _record(Board, {**table, "name": name}, where, "", errors, given=frozenset({"name"}))
    if not errors:
        uart, driver = _beside(board.uart, folder), _beside(board.counter.driver, folder)
        board = replace(board, uart=uart, counter=replace(board.counter, driver=driver))
        errors.extend(_impossible(board, where))
    raise_all(errors)
    assert isinstance(board, Board)
    return board


def _beside(driver: str, folder: Path) -> str:
    """A driver's name as it is; a path ending in `.cpp`, which the board file states from its own folder, from the
    root."""
    return str(folder.absolute() / driver) if driver.endswith(".cpp") else driver


# ---- what the firmware is made of ------------------------------------------------------------------------------------


def firmware_sources(board: Board, front: str = "") -> tuple[Path, ...]:
    """The hand-written files of an image for this board, in a fixed order. `front` is a folder of `firmware/` whose
    files take the place of the runtime's of the same name: another way to talk to the board."""
    own = sorted((root() / "firmware" / front).glob("*.cpp")) if front else []
    replaced = {path.name for path in own}
    return (*(path for path in _common_sources(board) if path.name not in replaced), *own, *own_sources(board))


def _common_sources(board: Board) -> tuple[Path, ...]:
    firmware = root() / "firmware"
    folders = [
        firmware / "runtime",
        firmware / "arch" / board.arch,
        *([firmware / "chip" / board.chip] if board.chip else []),
    ]
    return tuple(path for folder in folders for path in sorted(folder.glob("*.cpp")))


def own_sources(board: Board) -> tuple[Path, ...]:
    """The drivers that the board names: of its counter and its serial port."""
    firmware = root() / "firmware"
    drivers = {firmware / "arch" / board.arch / "counter": board.counter.driver, firmware / "uart": board.uart}
    return tuple(Path(name) if name.endswith(".cpp") else folder / f"{name}.cpp" for folder, name in drivers.items())


def firmware_defines(board: Board, *, probe_count: int = 0, trace: bool = False) -> Mapping[str, int | str]:
    """Macros those files need, numbers or lists of numbers. `probe_count` is the number of steps + 1 in a build that
    counts each step, else 0."""
    defines: dict[str, int | str] = {**board.defines, **_setup_defines(board)}
    if board.counter.address:
        defines["ET_COUNTER_ADDRESS"] = board.counter.address
    if probe_count:
        defines |= {"ET_PROBES": 1, "ET_PROBE_COUNT": probe_count}
    if trace:
        defines["ET_TRACE"] = 1
    return defines


def _setup_defines(board: Board) -> Mapping[str, int | str]:
    """What the firmware knows of the chip: nothing of a machine whose clocks and pins need no set-up."""
    defines: dict[str, int | str] = {"ET_CHIP": 1} if board.chip else {}
    if (clock := board.clock) is not None:
        defines |= {"ET_CLOCK_HZ": clock.hz, "ET_CLOCK_RESET_HZ": clock.reset_hz or clock.hz, "ET_BAUD": board.baud}
        defines |= {"ET_UART_HZ": clock.uart_hz, "ET_UART_RESET_HZ": clock.uart_reset_hz or clock.uart_hz}
        if clock.setup:
            defines["ET_CLOCK_SETUP"] = _numbers(words(clock.setup))
    if board.pins is not None:
        defines["ET_PIN_SETUP"] = _numbers(words(board.pins.setup))
    if board.reset_cause:
        defines["ET_RESET_CAUSES"] = _numbers(cause_words(board.reset_cause))
        if clear := words([operation for cause in board.reset_cause for operation in cause.clear]):
            defines["ET_RESET_CLEAR"] = _numbers(clear)
    return defines


def _numbers(values: tuple[int, ...]) -> str:
    return ",".join(f"0x{value:x}" for value in values)


def count_of(board: Board, *, simulated: bool) -> Count:
    """What a tick of the board's counter is worth: the simulator's own word counts before that of the board."""
    if simulated and board.simulator is not None and board.simulator.count is not None:
        return board.simulator.count
    return Count(board.counter.unit, board.counter.numerator, board.counter.denominator)


def source_of(board: Board, key: str) -> str:
    """Where the value of a key (`clock.setup`) was read; "" if nobody said."""
    parts = key.split(".")
    return next(
        (
            board.verified[name]
            for count in range(len(parts), 0, -1)
            if (name := ".".join(parts[:count])) in board.verified
        ),
        "",
    )


# ---- checking --------------------------------------------------------------------------------------------------------

_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    tuple: "a list",
    frozenset: "a list of strings",
    Mapping: "a table",
    dict: "a table",
    list: "a list",
    bool: "true or false",
    float: "a float",
}


def _record(
    kind: type, table: Any, where: str, path: str, errors: list[EtError], given: frozenset[str] = frozenset()
) -> Any:
    """Make one dataclass of a table whose keys are its fields; mistakes are appended to `errors` (then the result is
    not used)."""
    if not isinstance(table, dict):
        errors.append(_type_error(path, "a table", table, where))
        return None
    hints = get_type_hints(kind)
    known = [entry.name for entry in fields(kind) if entry.name not in given]
    prefix = f"{path}." if path else ""
    for key in table:
        if key not in known and key not in given:
            errors.append(
                BoardError(
                    f"unknown key {prefix + key!r}",
                    where=where,
                    hint=f"{_nearest(key, known)}known: {', '.join(known)}",
                )
            )
    values: dict[str, Any] = {}
    for entry in fields(kind):
        if entry.name in table:
            values[entry.name] = _value(hints[entry.name], table[entry.name], where, prefix + entry.name, errors)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            errors.append(
                BoardError(
                    f"{prefix + entry.name!r} is missing",
                    where=where,
                    hint=f"docs/boards.md says what it is; known: {', '.join(known)}",
                )
            )
    return None if errors else kind(**values)


def _value(hint: Any, value: Any, where: str, path: str, errors: list[EtError]) -> Any:
    if get_origin(hint) is types.UnionType:
        hint = next(option for option in get_args(hint) if option is not type(None))
    origin = get_origin(hint) or hint
    if origin is Operation:
        return _operation(value, where, path, errors)
    if origin in (str, int, bool):
        if type(value) is not origin:
            errors.append(_type_error(path, _TYPE_NAMES[origin], value, where))
        elif origin is int and value < 0:
            errors.append(BoardError(f"{path!r} is {value}, which is negative", where=where))
        return value
    if origin in (tuple, frozenset):
        if not isinstance(value, list):
            errors.append(_type_error(path, _TYPE_NAMES[origin], value, where))
            return value
        item = get_args(hint)[0]
        return origin([_value(item, part, where, f"{path}[{index}]", errors) for index, part in enumerate(value)])
    if origin is Mapping:
        if not isinstance(value, dict):
            errors.append(_type_error(path, "a table", value, where))
            return value
        return types.MappingProxyType(
            {key: _value(get_args(hint)[1], part, where, f"{path}.{key}", errors) for key, part in value.items()}
        )
    return _record(origin, value, where, path, errors)


def _operation(value: Any, where: str, path: str, errors: list[EtError]) -> Any:
    """A list of an operation's name and its numbers."""
    if not isinstance(value, list) or not value or value[0] not in OPERATIONS:
        hint = "; ".join(f'["{name}", {", ".join(numbers)}]' for name, numbers in OPERATIONS.items())
        errors.append(
            BoardError(
                f"{path!r} is {value!r}, which is no operation on a register", where=where, hint=f"known: {hint}"
            )
        )
        return value
    numbers = [_value(int, number, where, f"{path}[{index}]", errors) for index, number in enumerate(value[1:], 1)]
    return Operation(value[0], tuple(numbers))


def _type_error(path: str, wanted: str, value: Any, where: str) -> BoardError:
    return BoardError(
        f"{path!r} is {value!r}, {_TYPE_NAMES.get(type(value), type(value).__name__)}; {wanted} belongs there",
        where=where,
    )


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def _impossible(board: Board, where: str) -> Iterator[BoardError]:
    """What is well-formed and still cannot be."""
    firmware = root() / "firmware"
    yield from _unknown_file("arch", board.arch, [path.parent.name for path in firmware.glob("arch/*/counter/")], where)
    yield from _unknown_driver("uart", board.uart, list(firmware.glob("uart/*.cpp")), where)
    yield from _unknown_driver(
        "counter.driver", board.counter.driver, list(firmware.glob(f"arch/{board.arch}/counter/*.cpp")), where
    )
    stems = [path.stem for path in (*_common_sources(board), *own_sources(board))] + ["program", "binding", "constants"]
    for stem in sorted({stem for stem in stems if stems.count(stem) > 1}):
        yield BoardError(
            f"a driver is called {stem}.cpp, as another file of the firmware is",
            where=where,
            hint="give it another name",
        )
    for name in sorted(board.features - FEATURES):
        if near := _nearest(name, FEATURES):
            yield BoardError(
                f"'features' has {name!r}", where=where, hint=f"{near}known: {', '.join(sorted(FEATURES))}"
            )
    for key, names in (("memory", [memory.name for memory in board.memory]), ("defines", list(board.defines))):
        for name in names:
            if not _WORD.fullmatch(name) or (key == "memory" and name in _LINKER_WORDS):
                hint = "letters, digits and _, as the linker and the compiler take it"
                yield BoardError(f"{key!r} has the name {name!r}", where=where, hint=hint)
    simulated = board.simulator.count if board.simulator is not None else None
    counts: dict[str, Counter | Count] = {
        "counter": board.counter,
        **({"simulator.count": simulated} if simulated is not None else {}),
    }
    for key, count in counts.items():
        if count.numerator == 0 or count.denominator == 0:
            yield BoardError(f"'{key}.numerator' and '{key}.denominator' must not be 0", where=where)
    if board.stack == 0 or board.stack % 16:
        yield BoardError(f"'stack' is {board.stack}; a positive multiple of 16 belongs there", where=where)
    yield from _impossible_memory(board.memory, where)
    yield from _impossible_hardware(board, where)
    if board.simulator is not None:
        yield from _unknown_file("simulator.kind", board.simulator.kind, ["host", "qemu", "renode", "program"], where)
        for argument in (board.simulator.program, *board.simulator.arguments):
            yield from _unknown_placeholder(argument, where)


def _unknown_file(key: str, name: str, known: list[str], where: str) -> Iterator[BoardError]:
    if name not in known:
        yield BoardError(
            f"{key!r} is {name!r}, which does not exist",
            where=where,
            hint=f"{_nearest(name, known)}known: {', '.join(sorted(known))}",
        )


def _unknown_driver(key: str, name: str, known: list[Path], where: str) -> Iterator[BoardError]:
    if not name.endswith(".cpp"):
        yield from _unknown_file(key, name, [path.stem for path in known], where)
    elif not Path(name).is_file():
        yield BoardError(
            f"{key!r} is a file that does not exist: {name}",
            where=where,
            hint="a path is taken from the board file's folder",
        )


def _unknown_placeholder(argument: str, where: str) -> Iterator[BoardError]:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(argument) if name is not None}
    except ValueError as error:
        yield BoardError(f"'simulator' has {argument!r}: {error}", where=where)
        return
    for name in sorted(names - {"elf", "port", "renode", "device"}):
        yield BoardError(
            f"'simulator' has {{{name}}} in {argument!r}", where=where, hint="known: {elf}, {port}, {renode}, {device}"
        )


def _impossible_hardware(board: Board, where: str) -> Iterator[BoardError]:
    """What is said of the chip and of how it is attached."""
    if board.chip:
        yield from _unknown_file(
            "chip", board.chip, [path.name for path in (root() / "firmware").glob("chip/*/")], where
        )
    if board.bauds and board.baud not in board.bauds:
        yield BoardError(
            f"'baud' is {board.baud}, which is not one of 'bauds'",
            where=where,
            hint=f"known: {', '.join(map(str, board.bauds))}",
        )
    setups = {
        "clock.setup": board.clock.setup if board.clock else (),
        "pins.setup": board.pins.setup if board.pins else (),
    }
    setups |= {f"reset_cause[{index}].clear": cause.clear for index, cause in enumerate(board.reset_cause)}
    for key, operations in setups.items():
        for operation in operations:
            yield from impossible_operation(operation, key, where)
    if board.clock is not None:
        yield from impossible_clock(board.clock, board.bauds or (board.baud,), where)
    for cause in board.reset_cause:
        yield from impossible_cause(cause, where)
    if board.attach is not None:
        yield from impossible_attach(board.attach, where)
    keys = [entry.name for entry in fields(Board)]
    for key in board.verified:
        if key.split(".")[0] not in keys:
            yield BoardError(
                f"'verified' has {key!r}, which is no key",
                where=where,
                hint=f"{_nearest(key.split('.')[0], keys)}clock.setup, memory",
            )


def _impossible_memory(memory: tuple[Memory, ...], where: str) -> Iterator[BoardError]:
    for kind in ("flash", "ram"):
        if not any(region.kind == kind for region in memory):
            yield BoardError(f"no [[memory]] of kind {kind!r}", where=where)
    for region in memory:
        if region.kind not in ("flash", "ram"):
            yield BoardError(
                f"memory {region.name!r} is of kind {region.kind!r}", where=where, hint="known: flash, ram"
            )
        if region.size == 0:
            yield BoardError(f"memory {region.name!r} has size 0", where=where)
    names = [region.name for region in memory]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield BoardError(f"two memories are called {name!r}", where=where)
    ordered = sorted(memory, key=lambda region: region.address)
    for low, high in pairwise(ordered):
        if low.address + low.size > high.address:
            last = low.address + low.size - 1
            what = (
                f"memories {low.name!r} (0x{low.address:08x} to 0x{last:08x}) and {high.name!r} (from "
                f"0x{high.address:08x}) overlap"
            )
            yield BoardError(what, where=where)
