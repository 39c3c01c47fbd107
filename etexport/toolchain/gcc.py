"""The compiler of a board: which program, which arguments, and a build of one firmware from generated sources."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from etexport.artifacts.memory import Linked, read_memory
from etexport.board import Board, firmware_defines, firmware_sources, own_sources
from etexport.errors import BuildError, PlanError, ToolMissingError
from etexport.resources import root
from etexport.sources import folder_of

GENERATED = ("program.cpp", "binding.cpp", "constants.S")
MARKED = ("marked.cpp", *GENERATED[1:])
"""What emit writes and the compiler reads: the program that is shipped, and the one with marks between its steps."""
FOREIGN = "foreign.o"
"""The object of what kernels and delegates bring in C and C++ beside their headers."""
IMAGES = {"bin": "binary", "hex": "ihex"}

LANGUAGE = (
    "-std=c++17",
    "-O2",
    "-g",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-fno-math-errno",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-asynchronous-unwind-tables",
    "-fstack-usage",
    "-Wall",
    "-Wextra",
    "-Wconversion",
)

WISHES = ("-fno-move-loop-stores", "-fno-ipa-modref", "-fno-ipa-pure-const")
"""Flags that not every compiler has. gcc 12.2 moves volatile stores out of loops and writes bytes twice; the first
stops it. And where a kernel's operands have elements of different sizes (bool from float), it writes one address as a
difference of others, forgets what that points to, takes the kernel for one without effects, and leaves its call out;
the other two stop that.
"""

SANITIZE = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-fno-var-tracking-assignments",
)
"""The last one spares the compiler where each variable is at each instruction, half of its time where sanitizers make
functions long."""


@dataclass(frozen=True)
class Artifacts:
    """What a build leaves in its folder. `objects` and `stack_usage` (gcc's .su files) are in the order of the
    sources."""

    elf: Path
    bin: Path
    hex: Path
    map: Path
    objects: tuple[Path, ...]
    stack_usage: tuple[Path, ...]


def tool(board: Board, name: str) -> str:
    """The path of `<prefix><name>` on PATH; ToolMissingError with the command that installs it."""
    program = f"{board.toolchain.prefix}{name}"
    found = shutil.which(program)
    if found is None:
        package = board.toolchain.package
        hint = f"sudo apt-get install {package}" if package else f"put {program} on PATH"
        raise ToolMissingError(f"{program} is not installed", where=f"board {board.name}", hint=hint)
    return found


@functools.cache
def understands(compiler: str, flag: str) -> bool:
    """Whether the compiler knows the flag."""
    command = [compiler, "-Werror", flag, "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


def compile_flags(board: Board, *, sanitize: bool = False) -> tuple[str, ...]:
    """Flags for every C++ file of the board."""
    compiler = tool(board, "g++")
    wishes = [flag for flag in WISHES if understands(compiler, flag)]
    return (*board.toolchain.flags, *LANGUAGE, *wishes, *(SANITIZE if sanitize else ()))


def path_maps(board: Board, out: Path, library_dirs: Sequence[Path] = ()) -> tuple[str, ...]:
    """Flags that take this machine's folders out of debug information and `__FILE__`; the last that fits counts."""
    maps = {
        str(Path.cwd()): ".",
        **{str(source.parent): "board" for source in own_sources(board) if not source.is_relative_to(root())},
        **{str(folder.parent): f"kernels{index}" for index, folder in enumerate(library_dirs) if folder.is_absolute()},
        str(root()): "etexport",
        str(out.resolve()): ".",
    }
    return tuple(f"-ffile-prefix-map={path}={name}" for path, name in maps.items())


def include_dirs(out: Path, include: Sequence[Path]) -> tuple[Path, ...]:
    """Where `#include` looks: the generated sources, the firmware, the folders of kernels."""
    return (out, root() / "firmware", *include)


def define_flags(defines: Mapping[str, int | str]) -> tuple[str, ...]:
    return tuple(f"-D{name}={value}" for name, value in defines.items())


def link_flags(board: Board, *, sanitize: bool = False) -> tuple[str, ...]:
    """Flags of the link, which the C driver does: the RISC-V toolchain has no libstdc++."""
    own = ("-Wl,--gc-sections", "-Wl,--build-id=none", *board.toolchain.link_flags)
    # A fixed address on the host too: the same input gives the same image, and addresses in faults mean something.
    rest = ("-no-pie", *(SANITIZE[:1] if sanitize else ())) if "host" in board.features else ("-nostartfiles",)
    return (*board.toolchain.flags, *rest, *own)


def has_script(board: Board) -> bool:
    """Whether the link takes a script; on a host it takes the compiler's own."""
    return "host" not in board.features


def link_command(
    board: Board, objects: Sequence[str], elf: str, map_file: str, script: str, *, sanitize: bool = False
) -> list[str]:
    """The one recipe of the link. Names of files are the caller's; a build tool fills them in later."""
    flags = [*link_flags(board, sanitize=sanitize), *(("-T", script) if has_script(board) else ())]
    return [tool(board, "gcc"), *flags, f"-Wl,-Map={map_file}", *objects, "-lm", "-o", elf]


def image_command(board: Board, suffix: str, elf: str, image: str) -> list[str]:
    """The command that makes a file of one of `IMAGES` out of the linked one."""
    return [tool(board, "objcopy"), "-O", IMAGES[suffix], elf, image]


def assembler_flags(board: Board, folder: str) -> list[str]:
    """Flags for an assembler file that includes others of its folder; no debug information, of which the folder would
    be a part."""
    return [*board.toolchain.flags, "-Xassembler", "-I", "-Xassembler", folder]  # -Wa would end at a comma


def sources(
    board: Board, out: Path, front: str = "", generated: Sequence[Path] = (), *, marked: bool = False
) -> tuple[Path, ...]:
    """Generated files first, then the firmware."""
    return (*(out / name for name in (MARKED if marked else GENERATED)), *generated, *firmware_sources(board, front))


def compile_command(
    board: Board,
    source: Path,
    target: Path,
    out: Path,
    include: Sequence[Path],
    defines: Mapping[str, int | str],
    *,
    sanitize: bool = False,
) -> list[str]:
    """The command that makes one object file."""
    if source.suffix == ".S":
        flags = assembler_flags(board, str(out))
        return [tool(board, "gcc"), *flags, *define_flags(defines), "-c", str(source), "-o", str(target)]
    flags = [*compile_flags(board, sanitize=sanitize), *path_maps(board, out, include), *define_flags(defines)]
    includes = [f"-I{path}" for path in include_dirs(out, include)]
    return [tool(board, "g++"), *flags, *includes, "-c", str(source), "-o", str(target)]


def build(
    out: Path,
    board: Board,
    include: Sequence[Path],
    *,
    build_dir: Path | None = None,
    probe_count: int = 0,
    trace: bool = False,
    sanitize: bool = False,
    jobs: int = 2,
    front: str = "",
    generated: Sequence[Path] = (),
) -> Artifacts:
    """Compile the generated sources in `out` with the firmware and the C and C++ that its kernels and delegates bring,
    link them, and convert the image.

    `include` are the library's folders of kernels. Objects go to `obj/` in `build_dir` (default: `out`), the firmware
    beside it. `probe_count` (number of steps + 1) builds the marks that count each step, `trace` those that stream each
    result. `front` is another front end (`board.firmware_sources`), `generated` what was generated for it. BuildError
    with the compiler's own words, ToolMissingError where a tool is not there.
    """
    target = build_dir or out
    # a line end, bytes that are no text: gcc's own files have paths in their lines
    if not str(target.absolute()).isprintable():
        raise BuildError(
            "the folder's name has characters that no line of text can hold",
            where=ascii(str(target)),
            hint="choose another",
        )
    objects_dir = target / "obj"
    objects_dir.mkdir(parents=True, exist_ok=True)
    defines = firmware_defines(board, probe_count=probe_count, trace=trace)
    files = sources(board, out, front, generated, marked=trace or probe_count > 0)
    objects = tuple(objects_dir / f"{source.stem}.o" for source in files)
    assert len(set(objects)) == len(objects), f"two sources have one name: {files}"
    commands = [
        compile_command(board, source, target, out, include, defines, sanitize=sanitize)
        for source, target in zip(files, objects, strict=True)
    ]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda command: run(command, board), commands))
    linked = read_memory(out).sources if (out / "memory.json").is_file() else ()
    if linked:
        objects += (objects_dir / FOREIGN,)
        foreign_object(linked, board, include, objects[-1], sanitize=sanitize, jobs=jobs)
    return link(target, board, objects, script_dir=out, sanitize=sanitize)


def foreign_object(
    linked: Sequence[Linked], board: Board, include: Sequence[Path], target: Path, *, sanitize: bool = False,
    jobs: int = 2,
) -> None:  # fmt: skip
    """Compile what kernels and delegates bring in C and C++ into one object, the use of their stacks beside it;
    `include` are their folders. BuildError with the compiler's own words, ToolMissingError where a package cannot be
    fetched."""
    aside = target.with_suffix("")
    aside.mkdir(parents=True, exist_ok=True)
    commands = [command for one in linked for command in _foreign(one, board, include, aside, sanitize=sanitize)]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda command: run(command, board, brought=True), commands))
    objects = [command[-1] for command in commands]
    # specs of a C library bring its linker script
    flags = [flag for flag in board.toolchain.flags if not flag.startswith("--specs=")]
    run([tool(board, "gcc"), *flags, "-r", "-nostdlib", *objects, "-o", str(target)], board)
    usage = (Path(one).with_suffix(".su") for one in objects)
    target.with_suffix(".su").write_text("".join(one.read_text() for one in usage if one.is_file()), encoding="utf-8")


def _foreign(one: Linked, board: Board, include: Sequence[Path], aside: Path, *, sanitize: bool) -> Iterator[list[str]]:
    """The command for each file."""
    folder = next(folder / one.family for folder in include if (folder / one.family).is_dir())
    sources = one.sources
    homes = [(folder, one.family, sources.files, (".", *sources.include))]
    homes += [(folder_of(package), package.name, package.files, package.include) for package in sources.packages]
    includes = [f"-I{home / name}" for home, _, _, names in homes for name in names]
    maps = [f"-ffile-prefix-map={home}={name}" for home, name, *_ in homes]
    for home, at, files, _ in homes:
        for name in files:
            is_c = name.endswith(".c")
            flags = [flag for flag in compile_flags(board, sanitize=sanitize) if not is_c or flag not in _CPP]
            target = aside / f"{at}-{name.replace('/', '-')}.o"  # two folders may have files of one name
            program = tool(board, "gcc" if is_c else "g++")
            yield [program, *flags, *maps, *sources.flags, *includes, "-c", str(home / name), "-o", str(target)]


_CPP = ("-std=c++17", "-fno-rtti", "-fno-threadsafe-statics", "-Wconversion")
"""Flags that C does not have, or that is written otherwise than ours."""


def link(target: Path, board: Board, objects: Sequence[Path], *, script_dir: Path, sanitize: bool = False) -> Artifacts:
    """Link objects into `firmware.elf` in the folder `target`, with `.bin`, `.hex` and `.map` beside it."""
    elf, image, hex_file, map_file = (target / f"firmware.{suffix}" for suffix in ("elf", "bin", "hex", "map"))
    aside = target / ".firmware.elf.part"
    script = str(Path(os.path.relpath(script_dir, target)) / "link.ld")
    # Run in the folder, so that the map holds no path of this machine's.
    names = [os.path.relpath(path, target) for path in objects]
    run(link_command(board, names, aside.name, map_file.name, script, sanitize=sanitize), board, cwd=target)
    aside.replace(elf)
    for file in (image, hex_file):
        run(image_command(board, file.suffix[1:], str(elf), str(file)), board)
    usage = tuple(path.with_suffix(".su") for path in objects if path.with_suffix(".su").exists())
    return Artifacts(elf, image, hex_file, map_file, tuple(objects), usage)


def run(command: Sequence[str], board: Board, cwd: Path | None = None, *, brought: bool = False) -> None:
    """Run a tool; its errors become a BuildError, its warnings are passed on. `brought`: the source is not ours, and an
    error says where in it."""
    # Not closed for it is the lock on the folder (etexport/alone.py), which is to last as long as somebody writes
    # there.
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=cwd, close_fds=False
    )
    if done.returncode != 0:
        raise translated(done.stderr, board, command, brought=brought)
    if done.stderr.strip():
        print(done.stderr.rstrip(), file=sys.stderr)


_OVERFLOW = re.compile(r"region `?'?(?P<region>\w+)'? overflowed by (?P<bytes>\d+) bytes")

_HEADER = re.compile(r"^(?P<place>\S+\.h:\d+):\d+: (?:error|note):", re.MULTILINE)
"""Where a kernel is wrong, or is declared in another way than it is called."""
_BROUGHT = re.compile(r"^(?P<place>\S+\.(?:h|c|cpp):\d+):\d+: (?:error|note):", re.MULTILINE)
"""The same in what kernels and delegates bring in C and C++."""


def translated(text: str, board: Board, command: Sequence[str], *, brought: bool = False) -> BuildError | PlanError:
    """The tool's words as an error of ours; a full memory is told in bytes of the board."""
    overflows = [(match["region"], int(match["bytes"])) for match in _OVERFLOW.finditer(text)]
    if overflows:
        sizes = {memory.name: memory.size for memory in board.memory}
        words = "; ".join(
            f"{region} has {sizes.get(region, 0):,} bytes and needs {over:,} more" for region, over in overflows
        )
        return PlanError(
            f"the firmware does not fit: {words}",
            where=f"board {board.name}",
            hint="memory.json lists what lies in RAM; constants.bin is what the weights take of flash",
        )
    said = [line for line in text.strip().splitlines() if not line.startswith("collect2:")]
    lines = [line for line in said if "error" in line.lower() or "undefined reference" in line] or said
    header = (_BROUGHT if brought else _HEADER).search(text)
    where = header["place"] if header else f"board {board.name}"
    return BuildError(
        "\n".join(re.sub(rf"^{re.escape(where)}:\d+: ", "", line) for line in lines[:8])
        or f"{Path(command[0]).name} failed without a word",
        where=where,
        hint=f"the command was: {' '.join(command)}",
    )
