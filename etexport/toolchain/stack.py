"""How much stack a firmware needs at most: the deepest path through the call graph of its ELF, interrupted once by each
handler.

Calls and frames are read off the machine code, so the C library, libgcc and assembly are in it like everything else.
The compiler's own figures (`-fstack-usage`) are compared with it, and the larger one counts. What cannot be known is an
error that names the function: recursion, a frame of variable size, a call through a pointer.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from etexport.errors import BuildError, ToolMissingError, raise_all
from etexport.toolchain import stack_arm, stack_riscv
from etexport.toolchain.stack_walk import Code, Instruction, Walk, walk

# Words that an exception pushes: eight, 18 more with the FPU's state, one to align (Armv7-M ARM, B1.5.7). RISC-V pushes
# nothing by itself.
_ARM_FRAME = 4 * (8 + 1)
_ARM_FRAME_FPU = 4 * (26 + 1)
_ARM_HARD_FLOAT = 0x400  # e_flags: EF_ARM_ABI_FLOAT_HARD


@dataclass(frozen=True)
class Link:
    """One function of a chain of calls, and its bytes on the stack when it makes the next call (at its deepest, if it
    is the last)."""

    function: str
    bytes: int


@dataclass(frozen=True)
class Function:
    """`frame`: the most that it has on the stack itself; `bound`: with all that it calls; `compiler`: gcc's own figure,
    if there is one."""

    name: str
    frame: int
    bound: int
    compiler: int | None
    calls: tuple[str, ...]


@dataclass(frozen=True)
class StackReport:
    """`bound` is the sum of `chain`: from the entry down, then the exception frame and the handler's functions if there
    is a handler."""

    bound: int
    chain: tuple[Link, ...]
    functions: Mapping[str, Function]
    """Every function that can be reached, by name."""


@dataclass(frozen=True)
class Frame:
    """The compiler's figure for one function; `dynamic` if the frame has no fixed size (alloca, arrays of variable
    length)."""

    bytes: int
    dynamic: bool
    where: str


def stack_bound(
    elf: Path,
    objdump: str,
    su_files: Sequence[Path] = (),
    *,
    entries: Sequence[str] = ("_start",),
    handlers: Sequence[str] = (),
    targets: Mapping[str, Sequence[str]] | None = None,
) -> StackReport:
    """The bound of one stack on which one of the `entries` runs, interrupted by each of the exception `handlers` once.

    `objdump` is the toolchain's ("arm-none-eabi-objdump"). `targets` names, for a function that calls through pointers,
    all it can call. Entries and handlers may set the stack pointer; it is taken that they set it to the top of this
    stack, or elsewhere. Errors: BuildError naming functions (recursion, alloca, unknown call target, no such entry),
    ToolMissingError.
    """
    code, symbols, exception_frame = _read(elf, objdump)
    frames = compiler_frames(su_files)
    graph = _Graph(
        code,
        symbols,
        frames,
        targets or {},
        may_set_stack={symbols[name] for name in (*entries, *handlers) if name in symbols},
    )
    missing = [name for name in (*entries, *handlers, *graph.target_names()) if name not in symbols]
    raise_all([BuildError(f"no function {name}", where=elf.name) for name in missing])
    graph.explore([symbols[name] for name in (*entries, *handlers)])
    raise_all(graph.errors(elf.name))

    chain = max((graph.chain(symbols[name]) for name in entries), key=_total, default=())
    for handler in sorted({symbols[name] for name in handlers}):
        chain = (*chain, Link("exception frame", exception_frame), *graph.chain(handler))
    return StackReport(_total(chain), chain, graph.table())


def _total(chain: Iterable[Link]) -> int:
    return sum(link.bytes for link in chain)


class _Graph:
    """The call graph as far as it is reached, by address."""

    def __init__(
        self,
        code: Code,
        symbols: Mapping[str, int],
        frames: Mapping[str, tuple[Frame, ...]],
        targets: Mapping[str, Sequence[str]],
        may_set_stack: set[int],
    ) -> None:
        self.code = code
        self.symbols = symbols
        self.frames = frames
        self.targets = targets
        self.may_set_stack = may_set_stack
        self.walks: dict[int, Walk] = {}
        self.extra: dict[int, int] = {}
        """What the compiler's figure is above what was seen."""
        self.chains: dict[int, tuple[Link, ...]] = {}

    def target_names(self) -> list[str]:
        return [name for names in self.targets.values() for name in names]

    def explore(self, roots: Iterable[int]) -> None:
        todo = list(roots)
        while todo:
            start = todo.pop()
            if start in self.walks:
                continue
            self._name(start)
            known = self._compiler(start)
            fixed = [frame.bytes for frame in known if not frame.dynamic]
            seen = walk(self.code, start, frame=max(fixed) if known and len(fixed) == len(known) else None)
            for depth in seen.unknown_calls.values():
                for name in self.targets.get(self.code.names[start], ()):
                    callee = self.symbols[name]
                    seen.calls[callee] = max(depth, seen.calls.get(callee, 0))
            self.walks[start] = seen
            # Several functions of one name (templates, clones) share their figures; then the smallest is sure to hold
            # for each.
            self.extra[start] = max(0, min(fixed, default=0) - seen.depth)
            todo += [*seen.calls, *seen.jumps]

    def _name(self, start: int) -> None:
        """Assembly need not declare its functions: what is called is one, up to where the next one starts."""
        if start in self.code.names:
            return
        before = max((at for at in self.code.names if at < start), default=start)
        label = self.code.names.get(before, "code")
        self.code.names[start] = f"{label}+{start - before:#x}"
        self.code.ends[start] = self.code.ends.get(before, start)

    def _compiler(self, start: int) -> tuple[Frame, ...]:
        name = self.code.names[start]
        return self.frames.get(name, ()) or self.frames.get(identifier(name), ())

    def errors(self, where: str) -> list[BuildError]:
        """All that makes a bound impossible, each with the way of calls to it."""
        errors = []
        for start, seen in sorted(self.walks.items()):
            name = readable(self.code.names[start])
            alloca = [frame for frame in self._compiler(start) if frame.dynamic]
            if alloca:
                hint = "no alloca, no array of variable length"
                errors.append(_error(f"the stack frame of {name} has no fixed size", alloca[0].where or where, hint))
            elif seen.dynamic:
                errors.append(
                    _error(f"the stack of {name} grows in a loop", where, "the stack pointer moves each time round")
                )
            elif seen.lost and start not in self.may_set_stack:
                at, reason = min(seen.lost.items())
                errors.append(
                    _error(
                        f"the stack of {name} is not known: {reason}",
                        f"{where} at {at:#x}",
                        "compile it with -fstack-usage",
                    )
                )
            elif seen.sets_stack and start not in self.may_set_stack:
                place = f"{where} at {seen.sets_stack[0]:#x}"
                errors.append(_error(f"{name} sets the stack pointer", place, "only entries and handlers may"))
            if seen.unknown_calls and self.code.names[start] not in self.targets:
                at = min(seen.unknown_calls)
                errors.append(
                    _error(
                        f"{name} calls through a pointer, so that its stack is not known",
                        f"{where} at {at:#x}",
                        "call functions by name, or say which functions it calls",
                    )
                )
            for callee in (*seen.calls, *seen.jumps):
                if callee not in self.code.instructions:
                    errors.append(_error(f"{name} calls {callee:#x}, where there is no code", where, ""))
        circle = self._circle()
        if circle:
            names = " -> ".join(readable(self.code.names[start]) for start in circle)
            errors.append(_error(f"recursion: {names}", where, "its depth is not known when the firmware is built"))
        return errors

    def _circle(self) -> list[int]:
        done: set[int] = set()
        for root in sorted(self.walks):
            path: list[int] = []
            stack: list[tuple[int, bool]] = [(root, False)]
            while stack:
                start, leaving = stack.pop()
                if leaving:
                    path.pop()
                    done.add(start)
                elif start in path:
                    return [*path[path.index(start) :], start]
                elif start not in done:
                    path.append(start)
                    stack.append((start, True))
                    stack += [(callee, False) for callee in self._callees(start)]
        return []

    def _callees(self, start: int) -> list[int]:
        seen = self.walks[start]
        return sorted({*seen.calls, *seen.jumps})

    def chain(self, root: int) -> tuple[Link, ...]:
        """The deepest way down from a function. The graph has no circle."""
        todo = [root]
        while todo:
            start = todo[-1]
            waiting = [callee for callee in self._callees(start) if callee not in self.chains]
            if waiting:
                todo += waiting
                continue
            todo.pop()
            self.chains[start] = self._deepest(start)
        return self.chains[root]

    def _deepest(self, start: int) -> tuple[Link, ...]:
        seen = self.walks[start]
        name = readable(self.code.names[start])
        best: tuple[Link, ...] = (Link(name, seen.depth + self.extra[start]),)
        ways = [(depth + self.extra[start], callee) for callee, depth in sorted(seen.calls.items())]
        ways += [(depth, callee) for callee, depth in sorted(seen.jumps.items())]
        for depth, callee in ways:
            way = (Link(name, max(depth, 0)), *self.chains[callee])
            if _total(way) > _total(best):
                best = way
        return best

    def table(self) -> dict[str, Function]:
        functions = {}
        for start, seen in sorted(self.walks.items(), key=lambda item: self.code.names[item[0]]):
            name = self.code.names[start]
            known = self._compiler(start)
            functions[name] = Function(
                name=readable(name),
                frame=seen.depth + self.extra[start],
                bound=_total(self.chain(start)),
                compiler=_nearest([frame.bytes for frame in known], seen.depth),
                calls=tuple(self.code.names[callee] for callee in self._callees(start)),
            )
        return functions


def _nearest(figures: Sequence[int], depth: int) -> int | None:
    """Of several functions of one name, the figure that is this one's."""
    return min(figures, key=lambda figure: abs(figure - depth), default=None)


def _error(what: str, where: str, hint: str) -> BuildError:
    return BuildError(what, where=where, hint=hint)


# ---- what the compiler says


def compiler_frames(files: Sequence[Path]) -> dict[str, tuple[Frame, ...]]:
    """Figures of `.su` files (`-fstack-usage`) and `.ci` files (`-fcallgraph-info=su`), by the function's name.

    A `.ci` file has the linker's names, a `.su` file the language's: those
    are kept by the bare identifier, which several functions may share.
    """
    found: dict[str, list[Frame]] = {}
    for path in files:
        text = path.read_text()
        entries = _ci(text) if path.suffix == ".ci" else _su(text)
        for name, frame in entries:
            found.setdefault(name, []).append(frame)
    return {name: tuple(frames) for name, frames in found.items()}


def _su(text: str) -> Iterable[tuple[str, Frame]]:
    for line in text.splitlines():
        where, bytes_, qualifiers = line.rsplit("\t", 2)
        place, _, signature = where.rpartition(":") if "::" not in where else _split_place(where)
        yield _identifier_of_signature(signature), Frame(int(bytes_), _dynamic(qualifiers), place)


def _split_place(text: str) -> tuple[str, str, str]:
    """A C++ signature has colons itself: "file.cpp:12:5:void et::run()"."""
    found = re.match(r"(.*?:\d+:\d+):(.*)", text)
    return (found[1], ":", found[2]) if found else ("", "", text)


def _ci(text: str) -> Iterable[tuple[str, Frame]]:
    for title, label in re.findall(r'node: \{ title: "([^"]*)" label: "([^"]*)"', text):
        found = re.search(r"\\n(\d+) bytes \(([a-z,]+)\)", label)
        if found:
            # A function of internal linkage is "file.cpp:name".
            yield title.rpartition(":")[2], Frame(int(found[1]), _dynamic(found[2]), label.split("\\n")[1])


def _dynamic(qualifiers: str) -> bool:
    return "dynamic" in qualifiers and "bounded" not in qualifiers


def _identifier_of_signature(signature: str) -> str:
    """ "void et::linear(const G&) [with G = fc1]" -> "linear"."""
    if "<lambda" in signature:
        return "lambda"
    head = re.sub(r"\[with .*\]$", "", signature)
    found = re.search(
        r"(operator\s*[^\s\w(]+|operator\(\)|[~\w]+)\s*(?:<[^()]*>)?\(", head.replace("{anonymous}", "anonymous")
    )
    return found[1] if found else signature.strip()


def identifier(symbol: str) -> str:
    """The bare name in a linker symbol: "_ZN2et6linearINS_3fc1EEEvRKT_" -> "linear", "helper.part.0" -> "helper"."""
    if symbol.startswith("_ZZ") and "Ul" in symbol:
        return "lambda"
    path = _path_of_mangled(symbol)
    return path[-1] if path else symbol.split(".")[0]


def readable(symbol: str) -> str:
    """For people: "et::linear"; "et::linear::lambda" for what is defined inside it."""
    inner = symbol.startswith("_ZZ")
    path = _path_of_mangled("_Z" + symbol[3:] if inner else symbol)
    if inner:
        path.append("lambda" if "EUl" in symbol or "KUl" in symbol else "local")
    return "::".join(part for part in path if not part.startswith("_GLOBAL__N")) if path else symbol


def _path_of_mangled(symbol: str) -> list[str]:
    """Names of a mangled symbol up to its template arguments (Itanium C++ ABI, 5.1)."""
    found = re.match(r"_ZN?(?:[KVrO])*L?", symbol)
    if found is None:
        return []
    at = found.end()
    path: list[str] = []
    while number := re.match(r"L?(\d+)", symbol[at:]):
        at += number.end()
        path.append(symbol[at : at + int(number[1])])
        at += int(number[1])
        if not symbol.startswith("_ZN"):
            break
    return path


# ---- what the ELF says


def _read(elf: Path, objdump: str) -> tuple[Code, dict[str, int], int]:
    """Code, addresses of functions by name, and the bytes that an exception pushes by itself."""
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        arm = file["e_machine"] == "EM_ARM"
        if not arm and file["e_machine"] != "EM_RISCV":
            raise BuildError(
                f"no stack bound for machine {file['e_machine']}", where=elf.name, hint="Arm and RISC-V are known"
            )
        words = [
            (section["sh_addr"], section.data())
            for section in file.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_type"] == "SHT_PROGBITS"
        ]
        executable = [
            (section["sh_addr"], section["sh_addr"] + section["sh_size"])
            for section in file.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR
        ]
        symbols: dict[str, int] = {}
        names: dict[int, str] = {}
        sizes: dict[int, int] = {}
        table = file.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise BuildError("there is no symbol table", where=elf.name, hint="do not strip it")
        found = [
            symbol
            for symbol in table.iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
        ]
        # Of several names at one address the global one is shown, then the first by alphabet.
        for symbol in sorted(found, key=lambda symbol: (symbol["st_info"]["bind"] != "STB_GLOBAL", symbol.name)):
            address = symbol["st_value"] & ~1 if arm else symbol["st_value"]
            symbols.setdefault(symbol.name, address)
            if not arm and symbol.name.startswith(stack_riscv.MILLICODE):
                continue
            names.setdefault(address, symbol.name)
            sizes[address] = max(sizes.get(address, 0), symbol["st_size"])
        hard_float = bool(file["e_flags"] & _ARM_HARD_FLOAT)

    instructions = _disassemble(elf, objdump, arm=arm)
    starts = sorted(names)
    ends = {}
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        limit = next((end for begin, end in executable if begin <= start < end), start)
        if following is not None:
            limit = min(limit, following)
        ends[start] = limit if not sizes.get(start) else min(limit, start + sizes[start])
    code = Code(
        instructions=instructions,
        names=names,
        ends=ends,
        word=_reader(words),
        step=stack_arm.step if arm else stack_riscv.step,
        entry_registers=stack_arm.ENTRY_REGISTERS if arm else stack_riscv.ENTRY_REGISTERS,
    )
    return code, symbols, (_ARM_FRAME_FPU if hard_float else _ARM_FRAME) if arm else 0


def _reader(words: Sequence[tuple[int, bytes]]) -> Callable[[int], int | None]:
    def word(address: int) -> int | None:
        for begin, data in words:
            if begin <= address <= begin + len(data) - 4:
                return int.from_bytes(data[address - begin : address - begin + 4], "little")
        return None

    return word


def _disassemble(elf: Path, objdump: str, *, arm: bool) -> dict[int, Instruction]:
    command = [objdump, "-d", "-z", "--no-show-raw-insn", str(elf)]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise ToolMissingError(f"{objdump} is not installed", hint="`etexport doctor` says how to get it") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{objdump} failed: {error.stderr.strip()}", where=elf.name) from error
    lines = [
        found.groups()
        for line in output.splitlines()
        if (found := re.match(r"\s*([0-9a-f]+):\t(\S+)(?:\s+(.*))?$", line))
    ]
    instructions = {}
    for number, (at, mnemonic, rest) in enumerate(lines):
        if mnemonic.startswith("."):
            continue  # data in the text: literal pools and tables
        address = int(at, 16)
        following = int(lines[number + 1][0], 16) if number + 1 < len(lines) else address + 2
        text, _, comment = _comment(rest or "", arm=arm)
        instructions[address] = Instruction(address, following, mnemonic, _operands(text), comment)
    return instructions


def _comment(text: str, *, arm: bool) -> tuple[str, str, str]:
    """Newer binutils mark comments of Arm by "@", older ones by ";"; those of RISC-V are marked by "#"."""
    found = re.search(r"\s*[@;]\s" if arm else r"\s*#\s", text)
    return (text[: found.start()], "@", text[found.end() :]) if found else (text, "", "")


def _operands(text: str) -> tuple[str, ...]:
    """Split at commas that are in no brackets."""
    operands: list[str] = []
    depth = 0
    current = ""
    for letter in text:
        depth += letter in "[{"
        depth -= letter in "]}"
        if letter == "," and depth == 0:
            operands.append(current.strip())
            current = ""
        else:
            current += letter
    return (*operands, current.strip()) if current.strip() else tuple(operands)
