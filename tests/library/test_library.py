"""A model as a folder for other builds: built by Make and CMake, linked by a stock script, and what the bundled
firmware gives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from etexport.__main__ import main
from etexport.frontend.quantize.boundary import stored
from etexport.program.model import DType, QParams, TensorSpec
from etexport.toolchain import gcc
from tests.frontend.nets import NETS, net_script

ROOT = Path(__file__).parents[2]
ONCE = Path(__file__).parent / "once.cpp"
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
ARM = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


def command(*words: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """In float a network with a recurrent layer, in int8 one of convolutions."""
    folder = tmp_path_factory.mktemp("programs")
    found = {}
    for name, quantization in (("lstm", "float32"), ("conv_bn_relu", "int8")):
        script = net_script(folder / name, NETS[name], "int8_io = True\n" if quantization == "int8" else "")
        found[name] = folder / f"{name}.pte"
        assert main(["export", str(script), "--quantize", quantization, "-o", str(found[name])]) == 0
    return found


def made(program: Path, out: Path, core: str = "host", *more: str) -> Path:
    assert main(["library", str(program), "--core", core, "-o", str(out), *more]) == 0
    return out


def sample(program: Path, folder: Path, library: Path) -> tuple[bytes, list[str]]:
    """Writes input.bin; returns what the bundled firmware gives for it, and definitions for once.cpp."""
    built = folder / "built"
    assert main(["build", str(program), "--board", "host", "-o", str(built)]) == 0
    assert main(["run", str(built), "--samples", "1"]) == 0
    memory = json.loads((library / "memory.json").read_text())
    (given,), first = memory["inputs"], memory["outputs"][0]
    with np.load(program.with_suffix(".npz")) as arrays, np.load(built / "outputs.npz") as outputs:
        image, wanted = arrays["input_0"][0], outputs["output_0"][0]
    (folder / "input.bin").write_bytes(image.transpose(given["dim_order"]).tobytes())
    facts = {
        "NET": program.stem,
        "INPUT": given["name"],
        "OUTPUT": first["name"],
        "INPUTS": image.size,
        "OUTPUTS": wanted.size,
    }
    return wanted.transpose(first["dim_order"]).tobytes(), [f"-D{name}={value}" for name, value in facts.items()]


@pytest.mark.parametrize("name", ["lstm", "conv_bn_relu"])
def test_make_and_cmake(name: str, programs: dict[str, Path], tmp_path: Path) -> None:
    needs("make", "cmake", "g++")
    library = made(programs[name], tmp_path / "lib" / name)
    wanted, facts = sample(programs[name], tmp_path, library)
    (tmp_path / "Makefile").write_text(
        f"include lib/{name}/{name}.mk\n"
        f"app: $({name}_OBJECTS) once.o\n\t$(CXX) -o $@ $^ -lm\n"
        f"once.o: {ONCE}\n\t$(CXX) -std=c++17 {' '.join(facts)} -I$({name}_DIR)/src -c $< -o $@\n"
    )
    command("make", cwd=tmp_path)
    command("./app", cwd=tmp_path)
    assert (tmp_path / "output.bin").read_bytes() == wanted
    (tmp_path / "output.bin").unlink()
    from_c(name, library, facts, tmp_path)
    assert (tmp_path / "output.bin").read_bytes() == wanted
    (tmp_path / "output.bin").unlink()
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C CXX)\n"
        f"add_subdirectory(lib/{name})\nadd_executable(app {ONCE})\n"
        f"target_link_libraries(app {name} m)\ntarget_compile_options(app PRIVATE {' '.join(facts)})\n"
    )
    command("cmake", "-S", ".", "-B", "cmake", cwd=tmp_path)
    command("cmake", "--build", "cmake", cwd=tmp_path)
    command("cmake/app", cwd=tmp_path)
    assert (tmp_path / "output.bin").read_bytes() == wanted


def from_c(name: str, library: Path, facts: list[str], folder: Path) -> None:
    """The same by the header for C, linked by gcc; of integers also the numbers that they stand for, as PyTorch stores
    them."""
    quantized = name == "conv_bn_relu"
    strict = ("-std=c11", *STRICT, *(["-DQUANTIZED"] if quantized else []))
    command(
        "gcc",
        *strict,
        *facts,
        f"-I{library}/src",
        ONCE.with_suffix(".c"),
        *folder.glob(f"{name}*.o"),
        "-lm",
        "-o",
        "from_c",
        cwd=folder,
    )
    header = (library / "src" / f"{name}.h").read_text()
    found = re.findall(r"_(scale|zero_point) = ([-\d.e]+)", header)
    assert bool(found) == quantized
    if not quantized:
        command("./from_c", cwd=folder)
        return
    scale, zero_point = float(found[0][1]), int(found[1][1])
    halves = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * np.float32(scale)
    numbers = np.concatenate(
        [halves, np.random.default_rng(1).normal(0, 100 * scale, 1000), [0, np.inf, -np.inf, np.nan, 1e30]]
    )
    numbers = numbers.astype(np.float32)
    numbers.tofile(folder / "numbers.bin")
    command("./from_c", cwd=folder)
    answer = np.fromfile(folder / "stored.bin", np.dtype([("stored", np.int8), ("real", np.float32)]))
    wanted = stored(numbers, TensorSpec(DType.INT8, numbers.shape, qparams=QParams((scale,), (zero_point,), -128, 127)))
    np.testing.assert_array_equal(answer["stored"], wanted)
    np.testing.assert_array_equal(answer["real"], (wanted.astype(np.float32) - zero_point) * np.float32(scale))


def test_under_a_stock_linker_script_the_arena_is_no_part_of_the_image(
    programs: dict[str, Path], tmp_path: Path
) -> None:
    """newlib's own script; two models in one image, compiled without a word by strict compilers in three ways."""
    needs("arm-none-eabi-g++")
    libraries = [made(program, tmp_path / name, "m4f") for name, program in programs.items()]
    (tmp_path / "main.cpp").write_text(
        '#include "lstm.h"\n#include "conv_bn_relu.h"\n'
        "int main() {\n  lstm::init();\n  lstm::run();\n  conv_bn_relu::run();\n  return 0;\n}\n"
    )
    paths = [f"-I{library}/src" for library in libraries]
    for form in (("-O2",), ("-Os", "-flto"), ("-O2", "-fshort-enums")):
        objects = []
        for source in (
            tmp_path / "main.cpp",
            *(file for library in libraries for file in sorted((library / "src").glob("*.c*"))),
        ):
            compiler = "arm-none-eabi-gcc" if source.suffix == ".c" else "arm-none-eabi-g++"
            language = () if source.suffix == ".c" else ("-std=c++17", "-fno-exceptions", "-fno-rtti")
            objects.append(tmp_path / f"{source.stem}.o")
            command(compiler, *ARM, *form, *STRICT, *language, *paths, "-c", source, "-o", objects[-1], cwd=tmp_path)
        command("arm-none-eabi-g++", *ARM, *form, "--specs=rdimon.specs", *objects, "-o", "app.elf", cwd=tmp_path)
        with (tmp_path / "app.elf").open("rb") as stream:
            elf = ELFFile(stream)
            symbols = {symbol.name: symbol for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
            for arena in ("lstm_arena", "conv_bn_relu_arena"):
                section = elf.get_section(symbols[arena]["st_shndx"])
                assert section["sh_type"] == "SHT_NOBITS" and section.name == ".bss"


def test_steps_symbols_and_another_compiler(programs: dict[str, Path], tmp_path: Path) -> None:
    """A function of ours between the steps, which ends a run; no symbol but the model's; clang, as strict as gcc."""
    needs("g++", "gcc", "nm")
    library = made(programs["lstm"], tmp_path / "lib", "host", "--between-steps")
    (tmp_path / "main.cpp").write_text(BETWEEN)
    objects = []
    for compiler, source in (("g++", "lib/src/lstm.cpp"), ("gcc", "lib/src/lstm_constants.c"), ("g++", "main.cpp")):
        objects.append(f"{Path(source).stem}.o")
        command(compiler, *STRICT, "-O1", "-Ilib/src", "-c", source, "-o", objects[-1], cwd=tmp_path)
    command("g++", *objects, "-lm", "-o", "app", cwd=tmp_path)
    command("./app", cwd=tmp_path)
    names = command("nm", "-gC", "--defined-only", "-f", "posix", *objects[:2], cwd=tmp_path).splitlines()
    own = [line for line in names if re.search(r"\blstm(_\w+)?(::| |\()", line)]
    assert len(own) > 10 and [line for line in names if line and line not in own and not line.endswith(".o:")] == []
    assert not [line for line in names if re.search(r"\bet::", line)]
    needs("clang++")
    command("clang++", *STRICT, "-std=c++17", "-Isrc", "-c", "src/lstm.cpp", "-o", tmp_path / "clang.o", cwd=library)


BETWEEN = """
#include "lstm.h"
static uint32_t asked, last;
bool lstm_between(uint32_t step) {
  asked = step + 1;
  return step < last;
}
int main() {
  lstm::init();
  last = 1000;
  if (!lstm::run() || asked != lstm::kStepCount) return 1;
  last = 1;
  return lstm::run() || asked != 2 ? 2 : 0;
}
"""


def test_the_flags_that_gcc_needs_are_in_the_code(tmp_path: Path) -> None:
    """Bools made from floats, where gcc 12 goes wrong: the same code whether or not the flags are given; and they are
    needed."""
    needs("arm-none-eabi-g++")
    (tmp_path / "bools.py").write_text(BOOLS)
    assert main(["export", str(tmp_path / "bools.py"), "-o", str(tmp_path / "bools.pte")]) == 0
    source = made(tmp_path / "bools.pte", tmp_path / "lib", "m4f") / "src" / "bools.cpp"
    bare = tmp_path / "bare.cpp"
    bare.write_text("\n".join(line for line in source.read_text().splitlines() if not line.startswith("#pragma GCC")))

    def code(file: Path, *flags: str) -> str:
        command(
            "arm-none-eabi-g++",
            *ARM,
            "-O2",
            "-std=c++17",
            *flags,
            f"-I{source.parent}",
            "-c",
            file,
            "-o",
            "code.o",
            cwd=tmp_path,
        )
        return command("arm-none-eabi-objdump", "-d", "code.o", cwd=tmp_path)

    assert code(source) == code(source, *gcc.WISHES) == code(bare, *gcc.WISHES) != code(bare)


BOOLS = """
import torch

class Bools(torch.nn.Module):
    def forward(self, x, y):
        a = x > y
        b = torch.any(x.to(torch.bool), dim=1)
        return a, torch.isnan(x), torch.logical_or(x, y), b, torch.logical_not(x), x.to(torch.bool), torch.eq(x, 0.5), torch.where(a, x, y)

def model():
    return Bools()

def example_inputs():
    return torch.zeros(3, 8), torch.zeros(3, 8)
"""  # noqa: E501


def test_a_firmware_says_where_things_lie(programs: dict[str, Path], tmp_path: Path) -> None:
    """Arena and constants by names of sections; the code, kernels too, by the name of its object in the linker
    script."""
    needs("arm-none-eabi-g++")
    library = made(programs["lstm"], tmp_path / "lib", "m4f")
    places = (f"-I{library}/src", '-DET_ARENA=".bss.dtcm"', '-DET_CONSTANTS=".qspi"')
    for compiler, source in (("g++", "lstm.cpp"), ("gcc", "lstm_constants.c")):
        language = ("-std=c++17", *STRICT) if compiler == "g++" else STRICT
        file = library / "src" / source
        command(
            f"arm-none-eabi-{compiler}",
            *ARM,
            "-O2",
            *language,
            *places,
            "-c",
            file,
            "-o",
            f"{file.stem}.o",
            cwd=tmp_path,
        )
    (tmp_path / "place.ld").write_text(
        "SECTIONS { .ramfunc 0x20000000 : { *lstm.o(.text .text.*) } .text 0x8000 : { *(.text .text.*) } }"
    )
    objects = ("lstm.o", "lstm_constants.o", "-lm")
    link = (
        "-nostartfiles",
        "--specs=nano.specs",
        "-Wl,--entry=lstm_run",
        "-Wl,--no-warn-rwx-segments",
        "-T",
        "place.ld",
    )
    command("arm-none-eabi-gcc", *ARM, *link, *objects, "-o", "app.elf", cwd=tmp_path)
    with (tmp_path / "app.elf").open("rb") as stream:
        elf = ELFFile(stream)
        sections = {section.name: section for section in elf.iter_sections()}
        own = [
            one
            for one in elf.get_section_by_name(".symtab").iter_symbols()
            if one.name.startswith(("_ZN4lstm", "_ZN7lstm_et"))
        ]
        code = {elf.get_section(one["st_shndx"]).name for one in own if one["st_info"]["type"] == "STT_FUNC"}
    memory = json.loads((library / "memory.json").read_text())
    assert (
        sections[".bss.dtcm"]["sh_type"] == "SHT_NOBITS" and sections[".bss.dtcm"]["sh_size"] == memory["arena"]["size"]
    )
    assert sections[".qspi"]["sh_size"] >= memory["constants"]["size"] - 16
    assert code == {".ramfunc"} and sections[".ramfunc"]["sh_size"] > 1000 and sections[".text"]["sh_size"] > 0


@pytest.mark.parametrize("core", ["rv32imafc", "cortex-m0", "M33"])
def test_other_cores(core: str, programs: dict[str, Path], tmp_path: Path) -> None:
    """The flags that the README names are those with which it compiles."""
    compiler = "riscv64-unknown-elf-g++" if core.startswith("rv") else "arm-none-eabi-g++"
    needs(compiler)
    library = made(programs["lstm"], tmp_path / "lib", core)
    readme = (library / "README.md").read_text()
    flags = readme.partition("Compile for the core as it was made for: `")[2].partition("`")[0].split()
    assert flags
    headers = ("--specs=picolibc.specs",) if core.startswith("rv") else ()
    command(
        compiler,
        *flags,
        *headers,
        "-O2",
        "-std=c++17",
        *STRICT,
        "-Isrc",
        "-c",
        "src/lstm.cpp",
        "-o",
        tmp_path / "lstm.o",
        cwd=library,
    )


def test_the_same_bytes_and_nothing_of_this_machine(programs: dict[str, Path], tmp_path: Path) -> None:
    texts = []
    for name in ("one", "other"):
        library = made(programs["conv_bn_relu"], tmp_path / name, "m4f", "--optimize", "size")
        texts.append(
            {str(file.relative_to(library)): file.read_bytes() for file in sorted(library.rglob("*")) if file.is_file()}
        )
    assert texts[0] == texts[1]
    for place in (str(ROOT), str(tmp_path), str(Path.home())):
        assert not [name for name, text in texts[0].items() if place.encode() in text]
    kernels = {name.split("/")[1] for name in texts[0] if name.startswith("src/") and name.count("/") == 2}
    assert kernels <= {"et", "convolution", "copy"}, "kernels that the model does not call are not there"


SIZED = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x, wave):
        return self.layer(x), torch.nn.functional.avg_pool1d(wave, 2)

def model():
    torch.manual_seed(0)
    return Net()

def example_inputs():
    return torch.ones(3, 3), torch.ones(1, 2, 6)

def samples():
    return [(torch.rand(n, 3), torch.rand(1, 2, t)) for n, t in ((4, 8), (1, 4), (2, 7))]

def dynamic_shapes():
    return {0: torch.export.Dim("n", min=1, max=4)}, {2: torch.export.Dim("t", min=4, max=8)}
"""

SIZED_MAIN = """
#include <stdio.h>
#include "sized{header}"
int main(void) {{
  {init}();
  if ({run}(5, 8) || {run}(0, 8) || {run}(4, 3)) return 1;
  const int32_t sizes[][2] = {{{{4, 8}}, {{1, 4}}, {{2, 7}}}};
  FILE* const given = fopen("input.bin", "rb");
  FILE* const made = fopen("output.bin", "wb");
  for (int at = 0; at < 3; ++at) {{
    const int32_t n = sizes[at][0], t = sizes[at][1];
    int32_t out[3];
    if (fread({input}x(), 12, (size_t)n, given) != (size_t)n) return 2;
    if (fread({input}wave(), 8, (size_t)t, given) != (size_t)t) return 3;
    if (!{run}(n, t)) return 4;
    {output}layer_1_sizes_of(n, t, out);
    if (out[0] != n || out[1] != 2) return 5;
    fwrite({output}layer_1(), 4, (size_t)(out[0] * out[1]), made);
    {output}squeeze_sizes_of(n, t, out);
    if (out[0] != 1 || out[1] != 2 || out[2] != t / 2) return 6;
    fwrite({output}squeeze(), 4, (size_t)(out[1] * out[2]), made);
  }}
  return fclose(given) + fclose(made);
}}
"""


def test_sizes_known_at_run_time(tmp_path: Path) -> None:
    """They are arguments of run() in C++ and C, each refused outside its range; the bundled firmware gives the same
    bytes."""
    needs("g++", "gcc", "arm-none-eabi-g++")
    (tmp_path / "sized.py").write_text(SIZED)
    program = tmp_path / "sized.pte"
    assert main(["export", str(tmp_path / "sized.py"), "-o", str(program)]) == 0
    assert main(["build", str(program), "--board", "host", "-o", str(tmp_path / "built")]) == 0
    assert main(["run", str(tmp_path / "built")]) == 0
    with np.load(program.with_suffix(".npz")) as arrays, np.load(tmp_path / "built" / "outputs.npz") as outputs:
        inputs = [arrays[f"run_{at}_input_{one}"] for at in range(3) for one in range(2)]
        wanted = [outputs[f"run_{at}_output_{one}"] for at in range(3) for one in range(2)]
    (tmp_path / "input.bin").write_bytes(b"".join(one.tobytes() for one in inputs))
    made(program, tmp_path / "lib")
    command("g++", *STRICT, "-std=c++17", "-Ilib/src", "-c", "lib/src/sized.cpp", cwd=tmp_path)
    command("gcc", *STRICT, "-Ilib/src", "-c", "lib/src/sized_constants.c", cwd=tmp_path)
    plain = {"run": "sized::run", "init": "sized::init", "input": "sized::inputs::", "output": "sized::outputs::"}
    for name, compiler, own in (
        ("main.cpp", ("g++", "-std=c++17"), {**plain, "header": ".h"}),
        (
            "main.c",
            ("gcc", "-std=c11"),
            {
                **{key: f"sized_{key}" for key in ("run", "init")},
                "input": "sized_input_",
                "output": "sized_output_",
                "header": "_c.h",
            },
        ),
    ):
        (tmp_path / name).write_text(SIZED_MAIN.format(**own))
        command(*compiler, *STRICT, "-Ilib/src", name, "sized.o", "sized_constants.o", "-lm", "-o", "app", cwd=tmp_path)
        command("./app", cwd=tmp_path)
        assert (tmp_path / "output.bin").read_bytes() == b"".join(one.tobytes() for one in wanted)
        (tmp_path / "output.bin").unlink()
    library = made(program, tmp_path / "m4f", "m4f", "--optimize", "size")
    for source in ("src/sized.cpp", "examples/once/main.cpp"):
        command(
            "arm-none-eabi-g++",
            *ARM,
            *STRICT,
            "-Os",
            "-std=c++17",
            "-Isrc",
            "-c",
            source,
            "-o",
            tmp_path / "x.o",
            cwd=library,
        )
    assert "`n` from 1 to 4, `t` from 4 to 8" in (library / "README.md").read_text()


def test_manifests(programs: dict[str, Path], tmp_path: Path) -> None:
    """What PlatformIO (library.json) and Arduino (library specification 1.5) ask for."""
    library = made(programs["lstm"], tmp_path / "lib", "m4f")
    manifest = json.loads((library / "library.json").read_text())
    assert {"name", "version", "description", "frameworks", "platforms", "build"} <= manifest.keys()
    assert (library / manifest["build"]["srcDir"] / manifest["headers"]).is_file()
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    asked = [
        "name",
        "version",
        "author",
        "maintainer",
        "sentence",
        "paragraph",
        "category",
        "url",
        "architectures",
        "includes",
    ]
    assert set(asked) <= properties.keys() and properties["category"] == "Data Processing"
    assert (library / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_mistakes(programs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["library", str(programs["lstm"]), "--core", "m99", "-o", str(tmp_path / "x")]) == 1
    said = capsys.readouterr().err
    assert "no board has a core 'm99'" in said and "Cortex-M4F" in said and not (tmp_path / "x").exists()
    assert main(["library", str(tmp_path / "none.pte"), "--core", "m4f", "-o", str(tmp_path / "x")]) == 1
    with pytest.raises(SystemExit) as left:
        main(["library", str(programs["lstm"]), "-o", str(tmp_path / "x")])
    assert left.value.code == 1
