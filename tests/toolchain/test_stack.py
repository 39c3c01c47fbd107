"""The stack bound on real ELFs of five cores: never below what a painted stack shows, close to it, and refused where it
cannot be known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etexport.errors import BuildError, EtError, ToolMissingError
from etexport.toolchain.stack import StackReport, compiler_frames, identifier, readable, stack_bound
from tests.toolchain.bare import CORES, M0, M3, M4F, RV32, RV32_SOFT, Built, Core, build, painted_depth

HANDLER = "void handler_work() {}\n"

CHAIN = (
    HANDLER
    + r"""
volatile int sink;
NOINLINE int leaf(int n) { volatile int a[20]; for (int i = 0; i < 20; ++i) a[i] = i; return a[n % 20]; }
NOINLINE int third(int n) { volatile int a[9]; for (int i = 0; i < 9; ++i) a[i] = i + n; return leaf(a[n % 9]) + a[1]; }
NOINLINE int other(int n) { return leaf(n) * 3; }
NOINLINE int choose(int n, int x) {
  switch (n) {
    case 0: return other(x);
    case 1: return x * 7;
    case 2: return third(x + 3) + 1;
    case 3: return x / 3;
    case 4: return other(x) * third(n);
    case 5: return 77;
    case 6: return third(9) - 5;
    case 7: return third(x);
    default: return 0;
  }
}
NOINLINE int tail(int n) { return choose(n, n + 1); }
void work() { for (int i = 0; i < 9; ++i) sink = tail(i); }
"""
)

LIBRARY = (
    HANDLER
    + r"""
volatile float sink;
NOINLINE float f(float x) {
  const float positive = x < 0 ? -x : x;
  return expf(x) + tanhf(x) * powf(positive, 0.3f) + logf(x * x + 1.f) + sqrtf(positive) + sinf(x) + erff(x);
}
void work() {
  const float xs[] = {0.f, 1e-30f, -1e-42f, 0.1f, -0.5f, 1.f, 3.f, -20.f, 88.9f, -104.f, 1e5f, -3e7f, 1e38f, INFINITY, -INFINITY, NAN};
  for (float x : xs) sink = f(x);
}
"""  # noqa: E501
)

WIDE = (
    HANDLER
    + r"""
volatile long long sink, a = 1234567890123LL, b = 98765;
volatile double wide_sink, d = 1.5, e = 0.3;
void work() {
  sink = a / b + a % b;
  sink = static_cast<long long>(d * e) + static_cast<unsigned long long>(a) / 7u;
  wide_sink = d / e - d * e + static_cast<double>(a);
}
"""
)

LARGE = (
    HANDLER
    + r"""
volatile int sink;
NOINLINE int in(int n) { volatile char a[300]; for (int i = 0; i < 300; ++i) a[i] = static_cast<char>(i); return a[n]; }
NOINLINE int large(int n) {
  volatile char a[5000];
  for (int i = 0; i < 5000; ++i) a[i] = static_cast<char>(n + i);
  return in(a[n % 5000] & 15) + a[1];
}
void work() { sink = large(3); }
"""
)

MEMORY = (
    HANDLER
    + r"""
unsigned char from[700], to[700];
volatile unsigned n = 700;
void work() {
  memset(from, 3, n);
  memmove(to, from, n);
  memcpy(from + 1, to, n - 1);
}
"""
)

PROGRAMS = {"chain": CHAIN, "library": LIBRARY, "wide": WIDE, "large": LARGE, "memory": MEMORY}


def bound(built: Built, **more: object) -> StackReport:
    return stack_bound(built.elf, built.core.objdump, built.su, **more)  # type: ignore[arg-type]


def refused(built: Built, **more: object) -> str:
    with pytest.raises(EtError) as caught:
        bound(built, **more)
    errors = getattr(caught.value, "errors", (caught.value,))
    assert all(isinstance(error, BuildError) for error in errors)
    return str(caught.value)


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("optimize", ["-O2", "-Os", "-O0"])
def test_at_least_the_painted_depth_and_close_to_it(core: Core, name: str, optimize: str, tmp_path: Path) -> None:
    built = build(tmp_path, core, PROGRAMS[name], optimize)
    report = bound(built)
    used = painted_depth(built)
    assert used <= report.bound
    # What is reserved and never written is not painted over: alignment, room for registers of other paths.
    room = 40
    assert report.bound <= used + room, report.chain
    assert sum(link.bytes for link in report.chain) == report.bound
    assert report.chain[0].function == "_start"


@pytest.mark.parametrize("core", [RV32, RV32_SOFT], ids=lambda core: core.name)
def test_millicode(core: Core, tmp_path: Path) -> None:
    """`-msave-restore`: functions whose prologue is a call."""
    built = build(tmp_path, core, CHAIN, "-Os", "-msave-restore")
    report = bound(built)
    assert painted_depth(built) <= report.bound <= painted_depth(built) + 40
    assert not any(name.startswith("__riscv") for name in report.functions)


SPILLED = (
    HANDLER
    + r"""
asm(R"(
  .text
  .globl dispatch
  .type dispatch, @function
dispatch:
  addi sp, sp, -32
  lui a4, %hi(places)
  addi a4, a4, %lo(places)
  sw a4, 8(sp)
  BETWEEN
  lw a4, 8(sp)
  andi a0, a0, 1
  slli a5, a0, 2
  add a5, a5, a4
  lw a5, 0(a5)
  jr a5
1: li a0, 5
2: addi sp, sp, 32
  ret
  .size dispatch, .-dispatch
  .section .rodata
  .balign 4
places: .word 1b, 2b
)");
extern "C" int dispatch(int n);
volatile int sink;
void work() { sink = dispatch(0) + dispatch(1); }
"""
)


def test_the_place_of_a_switch_may_lie_in_the_frame(tmp_path: Path) -> None:
    """As gcc leaves it in a loop where registers are few; where anything else is stored there, nobody knows."""
    report = bound(build(tmp_path / "kept", RV32, SPILLED.replace("BETWEEN", "sw a0, 12(sp)")))
    assert report.functions["dispatch"].frame == 32
    assert "calls through a pointer" in refused(
        build(tmp_path / "lost", RV32, SPILLED.replace("BETWEEN", "sw a0, 8(sp)"))
    )


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_frames_are_those_of_the_compiler(core: Core, tmp_path: Path) -> None:
    built = build(tmp_path, core, CHAIN + "\n")
    report = bound(built)
    own = [
        function
        for function in report.functions.values()
        if function.compiler is not None and function.name != "_start"
    ]
    assert {"leaf", "third", "other", "choose", "tail"} <= {function.name for function in own}
    for function in own:
        assert function.frame == function.compiler, function
    by_ci = stack_bound(built.elf, core.objdump, [path.with_suffix(".ci") for path in built.su])
    assert by_ci == report
    assert stack_bound(built.elf, core.objdump).bound == report.bound, "machine code alone says the same"


def test_the_chain_is_the_deepest(tmp_path: Path) -> None:
    report = bound(build(tmp_path, M3, CHAIN))
    names = [link.function for link in report.chain]
    assert names[:2] == ["_start", "begin"]
    assert names[-2:] == ["third", "leaf"]
    assert names.index("choose") < names.index("third")
    leaf = next(function for function in report.functions.values() if function.name == "leaf")
    assert leaf.bound == leaf.frame == report.chain[-1].bytes >= 80


def test_soft_float_calls_count(tmp_path: Path) -> None:
    """A Cortex-M3 multiplies by calling libgcc; with an FPU nothing is called."""
    source = HANDLER + "volatile float a = 2, b = 3; volatile int c; void work() { c = a / b < a; }"
    soft, hard = bound(build(tmp_path / "m3", M3, source)), bound(build(tmp_path / "m4f", M4F, source))
    assert {"__aeabi_fdiv", "__aeabi_fcmplt"} <= set(soft.functions)
    assert not any(name.startswith("__aeabi") for name in hard.functions)
    assert soft.bound > hard.bound


@pytest.mark.parametrize(
    ("core", "frame"), [(M0, 36), (M3, 36), (M4F, 108), (RV32, 0)], ids=["m0", "m3", "m4f", "rv32"]
)
def test_handlers_come_on_top(core: Core, frame: int, tmp_path: Path) -> None:
    source = CHAIN.replace(
        HANDLER, "NOINLINE void handler_work() { volatile int a[30]; for (int i = 0; i < 30; ++i) a[i] = i; }"
    )
    built = build(tmp_path, core, source)
    alone = bound(built)
    both = bound(built, handlers=["fault"])
    handler = bound(built, entries=["fault"])
    assert handler.bound >= 120
    assert both.bound == alone.bound + frame + handler.bound
    assert [link.function for link in both.chain[len(alone.chain) :]] == [
        "exception frame",
        *(link.function for link in handler.chain),
    ]
    assert bound(built, handlers=["fault", "fault"]).bound == both.bound


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_recursion(core: Core, tmp_path: Path) -> None:
    source = (
        HANDLER
        + """volatile int k = 5;
        NOINLINE int fall(int n) { volatile int a[4]; a[n & 3] = n; return n < 2 ? n : fall(n - 1) * a[n & 3]; }
        void work() { k = fall(k); }"""
    )
    assert "recursion: fall -> fall" in refused(build(tmp_path / "self", core, source))
    source = (
        HANDLER
        + """volatile int k = 5; int b(int);
        NOINLINE int a(int n) { volatile int x[4]; x[n & 3] = n; return n < 2 ? n : b(n - 1) * x[n & 3]; }
        NOINLINE int b(int n) { return a(n - 1) + 1; } void work() { k = a(k); }"""
    )
    text = refused(build(tmp_path / "mutual", core, source))
    assert "recursion" in text and "a -> b" in text


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_branches_that_go_far_are_no_recursion(core: Core, tmp_path: Path) -> None:
    """On Armv6-M a loop of more than 2 KB goes round by `bl`."""
    lines = "".join(f"sink = sink * {at + 3} + n / {at + 7}; " for at in range(300))
    source = (
        HANDLER
        + f"""volatile int sink = 1, k = 3;
        NOINLINE int leaf(int n) {{ volatile int a[9]; a[n & 7] = n; return a[n & 7]; }}
        NOINLINE void wide(int n) {{ while (n > 0) {{ {lines} n = leaf(n) - 1; }} }}
        void work() {{ wide(k); }}"""
    )
    built = build(tmp_path, core, source)
    report = bound(built)
    assert painted_depth(built) <= report.bound <= painted_depth(built) + 40
    assert [link.function for link in report.chain][-2:] == ["wide", "leaf"] or report.chain[-2].function == "wide"


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_alloca(core: Core, tmp_path: Path) -> None:
    source = (
        HANDLER
        + """volatile int k = 5;
        NOINLINE int grow(int n) { volatile char* p = static_cast<char*>(__builtin_alloca(n)); p[0] = 1; return p[n - 1]; }
        void work() { k = grow(k); }"""  # noqa: E501
    )
    built = build(tmp_path, core, source)
    assert "the stack frame of grow has no fixed size" in refused(built)
    with pytest.raises(BuildError, match="grow"):
        stack_bound(built.elf, core.objdump)  # without the compiler's word for it
    unused = build(tmp_path / "unused", core, source.replace("k = grow(k);", "k = 1;"))
    assert bound(unused).bound > 0, "the linker threw it away"


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
@pytest.mark.parametrize(
    "call",
    [
        "k = f(k) + 1;",
        "k = table[k & 3](k) + 1;",
        "NAME",
    ],
    ids=["pointer", "table", "tail"],
)
def test_calls_through_pointers(core: Core, call: str, tmp_path: Path) -> None:
    source = (
        HANDLER
        + """volatile int k = 5; typedef int (*F)(int);
        NOINLINE int one(int n) { volatile int a[40]; for (int i = 0; i < 40; ++i) a[i] = n; return a[n & 31]; }
        NOINLINE int two(int n) { return n * 3; }
        F volatile f = one; const F table[4] = {one, two, one, two};
        NOINLINE int indirect(int n) { BODY }
        void work() { k = indirect(k); }"""
    )
    body = "return table[n & 3](n);" if call == "NAME" else f"{call} return k;"
    built = build(tmp_path, core, source.replace("BODY", body))
    assert "indirect calls through a pointer" in refused(built)
    # It can be told.
    names = symbols(built)
    callees = [name for name in names if name.startswith(("_Z3one", "_Z3two"))]
    known = bound(built, targets={name: callees for name in names if "indirect" in name})
    assert painted_depth(built) <= known.bound
    assert any(function.name == "one" for function in known.functions.values())


def symbols(built: Built) -> list[str]:
    from elftools.elf.elffile import ELFFile

    with built.elf.open("rb") as stream:
        return [symbol.name for symbol in ELFFile(stream).get_section_by_name(".symtab").iter_symbols()]


def test_setting_the_stack_pointer(tmp_path: Path) -> None:
    jump = 'NOINLINE void jump() { __asm volatile("ldr r0, =0x20001000\\n mov sp, r0\\n" ::: "r0"); }'
    arm = f"{HANDLER} {jump} void work() {{ jump(); }}"
    assert "jump sets the stack pointer" in refused(build(tmp_path / "arm", M3, arm))
    riscv = HANDLER + 'NOINLINE void jump() { __asm volatile("lui sp, 0x80101\\n"); } void work() { jump(); }'
    assert "jump sets the stack pointer" in refused(build(tmp_path / "riscv", RV32, riscv))


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    source = (
        HANDLER
        + """volatile int k = 5; NOINLINE int fall(int n) { return n < 2 ? n : fall(n - 1) * fall(n - 2) + k; }
        NOINLINE int grow(int n) { volatile char a[n]; a[0] = 1; return a[n - 1]; }
        int (*volatile f)(int) = fall; void work() { k = fall(k); k = grow(k); k = f(k) + 1; }"""
    )
    text = refused(build(tmp_path, M3, source))
    assert "recursion" in text and "grow" in text and "work calls through a pointer" in text


def test_what_is_missing(tmp_path: Path) -> None:
    built = build(tmp_path, M3, CHAIN)
    assert "no function Reset" in refused(built, entries=["Reset"])
    with pytest.raises(ToolMissingError):
        stack_bound(built.elf, "no-such-objdump")
    stripped = tmp_path / "stripped.elf"
    shutil.copy(built.elf, stripped)
    import subprocess

    subprocess.run(["arm-none-eabi-strip", str(stripped)], check=True)
    with pytest.raises(BuildError, match="symbol table"):
        stack_bound(stripped, M3.objdump)


def test_names() -> None:
    assert readable("_ZN2et6linearINS_3fc1EEEvRKT_PfPKf.isra.0") == "et::linear"
    assert readable("_ZN2et12_GLOBAL__N_16helperEi") == "et::helper"
    assert readable("_ZZN2et3rowIiEEvPfENKUlRKT_E_clIiEEDaS2_") == "et::row::lambda"
    assert readable("memcpy") == "memcpy"
    assert identifier("_ZN2et6linearINS_3fc1EEEvRKT_PfPKf.isra.0") == "linear"
    assert identifier("_Z4leafi") == "leaf"
    assert identifier("helper.part.0") == "helper"


def test_compiler_files(tmp_path: Path) -> None:
    su = tmp_path / "a.su"
    su.write_text(
        "k/a.h:4:51:void et::linear(const G&, float*) [with G = fc1]\t104\tstatic\n"
        "a.cpp:6:43:int et::{anonymous}::helper(int)\t40\tdynamic\n"
        "a.c:3:5:plain\t8\tdynamic,bounded\n"
        "a.cpp:9:2:et::row(int)::<lambda(int)>\t16\tstatic\n"
    )
    frames = compiler_frames([su])
    assert {name: [(frame.bytes, frame.dynamic) for frame in found] for name, found in frames.items()} == {
        "linear": [(104, False)],
        "helper": [(40, True)],
        "plain": [(8, False)],
        "lambda": [(16, False)],
    }
    assert frames["helper"][0].where == "a.cpp:6:43"
