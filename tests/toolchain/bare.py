"""Small bare-metal ELFs for the tests of this folder: built by the two compilers, and run in QEMU with a painted
stack."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Core:
    name: str
    prefix: str
    flags: tuple[str, ...]
    specs: str
    qemu: tuple[str, ...]
    code: int
    ram: int

    @property
    def objdump(self) -> str:
        return f"{self.prefix}objdump"


_ARM = ("qemu-system-arm", "-M")
M0 = Core("m0", "arm-none-eabi-", ("-mcpu=cortex-m0", "-mthumb"), "nano.specs", (*_ARM, "microbit"), 0, 0x20000000)
M3 = Core("m3", "arm-none-eabi-", ("-mcpu=cortex-m3", "-mthumb"), "nano.specs", (*_ARM, "mps2-an385"), 0, 0x20000000)
M4F = Core(
    "m4f", "arm-none-eabi-", ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), "nano.specs",
    (*_ARM, "mps2-an386"), 0, 0x20000000,
)  # fmt: skip
RV32 = Core(
    "rv32", "riscv64-unknown-elf-", ("-misa-spec=2.2", "-march=rv32imafc", "-mabi=ilp32f"), "picolibc.specs",
    ("qemu-system-riscv32", "-M", "virt", "-bios", "none"), 0x80000000, 0x80100000,
)  # fmt: skip
RV32_SOFT = Core(
    "rv32_soft", "riscv64-unknown-elf-", ("-misa-spec=2.2", "-march=rv32imac", "-mabi=ilp32"), "picolibc.specs",
    ("qemu-system-riscv32", "-M", "virt", "-bios", "none"), 0x80000000, 0x80100000,
)  # fmt: skip
CORES = (M0, M3, M4F, RV32, RV32_SOFT)

START = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__arm__)
#define MOVE "mov"
#else
#define MOVE "mv"
#endif
#define NOINLINE __attribute__((noinline, noclone))
extern "C" {
extern uint32_t __stack_bottom[], __stack_top[], __bss_start[], __bss_end[], __data_start[], __data_end[], __data_load[];
__attribute__((noreturn, used)) void begin();
}
void work();
void handler_work();
namespace {
int call_host(int operation, const void* argument) {
#if defined(__arm__)
  register int r0 __asm("r0") = operation;
  register const void* r1 __asm("r1") = argument;
  __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
#else
  register int a0 __asm("a0") = operation;
  register const void* a1 __asm("a1") = argument;
  __asm volatile(
      ".option push\n .option norvc\n .balign 16\n slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7\n .option pop"
      : "+r"(a0) : "r"(a1) : "memory");
  return a0;
#endif
}
}
#if defined(__arm__)
extern "C" __attribute__((naked, used)) void _start() {
  __asm volatile("ldr r0, =__stack_top\n mov sp, r0\n bl begin\n .ltorg\n");
}
extern "C" __attribute__((used)) void fault() { handler_work(); for (;;) {} }
__attribute__((section(".vectors"), used)) const void* const vectors[4] = {
    __stack_top, reinterpret_cast<void*>(_start), reinterpret_cast<void*>(fault), reinterpret_cast<void*>(fault)};
#else
extern "C" __attribute__((naked, section(".vectors"), used)) void _start() {
  __asm volatile("la sp, __stack_top\n j begin\n");
}
extern "C" __attribute__((used)) void fault() { handler_work(); for (;;) {} }
#endif
extern "C" __attribute__((noreturn, optimize("no-tree-loop-distribute-patterns"))) void begin() {
#if defined(__ARM_FP)
  *reinterpret_cast<volatile uint32_t*>(0xE000ED88) = 0xFU << 20;
  __asm volatile("dsb\n isb");
#elif defined(__riscv_flen)
  __asm volatile("csrs mstatus, %0" ::"r"(0x2000));
#endif
#if defined(__riscv)
  __asm volatile("csrw mtvec, %0" ::"r"(fault));
#endif
  for (uint32_t *p = __data_start, *q = __data_load; p < __data_end;) *p++ = *q++;
  for (uint32_t* p = __bss_start; p < __bss_end;) *p++ = 0;
  uint32_t* here;
  __asm volatile(MOVE " %0, sp" : "=r"(here));
  for (volatile uint32_t* p = __stack_bottom; p < here;) *p++ = 0xC5C5C5C5;
  work();
  const uint32_t* p = __stack_bottom;
  while (*p == 0xC5C5C5C5) ++p;
  uint32_t used = static_cast<uint32_t>(__stack_top - p) * 4;
  char text[12] = "used:     ";
  for (int i = 9; i > 4; --i, used /= 10) text[i] = static_cast<char>('0' + used % 10);
  text[10] = '\n';
  text[11] = 0;
  call_host(4, text);  // SYS_WRITE0
  const uint32_t block[2] = {0x20026, 0};
  call_host(0x20, block);
  for (;;) {}
}
"""  # noqa: E501

SCRIPT = """
ENTRY(_start)
MEMORY {{ code : ORIGIN = {code:#x}, LENGTH = 128K
  ram : ORIGIN = {ram:#x}, LENGTH = 16K }}
SECTIONS {{
  .text : {{ KEEP(*(.vectors)) *(.text .text.*) *(.rodata .rodata.* .srodata .srodata.*) . = ALIGN(4); }} > code
  .ARM.exidx : {{ __exidx_start = .; *(.ARM.exidx* .ARM.extab*) __exidx_end = .; }} > code
  .stack (NOLOAD) : {{ __stack_bottom = .; . += 8K; __stack_top = .; }} > ram
  .data : {{ __data_start = .; *(.data .data.* .sdata .sdata.*) . = ALIGN(4); __data_end = .; }} > ram AT > code
  __data_load = LOADADDR(.data);
  .tdata : {{ *(.tdata .tdata.*) }} > ram AT > code
  .tbss (NOLOAD) : {{ *(.tbss .tbss.*) }} > ram
  .arena (NOLOAD) : {{ *(.bss.et.*) }} > ram
  .bss (NOLOAD) : {{ __bss_start = .; . += SIZEOF(.tbss); *(.bss .bss.* .sbss .sbss.* COMMON) . = ALIGN(4); __bss_end = .; }} > ram
  /DISCARD/ : {{ *(.eh_frame*) }}
}}
"""  # noqa: E501


FLAGS = (
    "-std=c++17", "-O2", "-ffunction-sections", "-fdata-sections", "-fno-exceptions", "-fno-rtti", "-fno-math-errno",
    "-fno-asynchronous-unwind-tables", "-fstack-usage", "-fcallgraph-info=su",
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    core: Core
    elf: Path
    map: Path
    objects: tuple[Path, ...]
    su: tuple[Path, ...]


def build(folder: Path, core: Core, source: str, *flags: str, more: dict[str, str] | None = None) -> Built:
    """Compile `source` behind the start code; `more` are further files by name."""
    if shutil.which(f"{core.prefix}g++") is None:
        pytest.skip(f"{core.prefix}g++ is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    files = {"main.cpp": START + source, **(more or {})}
    objects = []
    for name, text in files.items():
        (folder / name).write_text(text)
        objects.append(f"{name.split('.')[0]}.o")
        command = [f"{core.prefix}g++", *core.flags, f"--specs={core.specs}", *FLAGS]
        run([*command, *flags, "-c", name, "-o", objects[-1]], folder)
    (folder / "link.ld").write_text(SCRIPT.format(code=core.code, ram=core.ram))
    command = [f"{core.prefix}gcc", *core.flags, f"--specs={core.specs}", "-nostartfiles", "-T", "link.ld"]
    run([*command, "-Wl,--gc-sections", "-Wl,-Map=fw.map", *objects, "-lm", "-o", "fw.elf"], folder)
    paths = tuple(folder / name for name in objects)
    su = tuple(path.with_suffix(".su") for path in paths if path.with_suffix(".su").exists())
    return Built(core, folder / "fw.elf", folder / "fw.map", paths, su)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def painted_depth(built: Built) -> int:
    """Bytes of stack that were written while the image ran in QEMU."""
    if shutil.which(built.core.qemu[0]) is None:
        pytest.skip(f"{built.core.qemu[0]} is not installed")
    command = [*built.core.qemu, "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(built.elf)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    said = done.stdout + done.stderr
    assert "used:" in said, said
    return int(said.split("used:")[1].split()[0])
