// Start-up, traps and exit of RISC-V in machine mode (privileged specification, chapter 3).
#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include <stdint.h>

#include "arch/linked.h"
#include "runtime/core.h"
#include "runtime/fault.h"

extern "C" {
void _start();
void et_trap();
[[noreturn]] void et_start();
}

namespace et {
namespace {

constexpr uint32_t kRegisters = 35;

}  // namespace
}  // namespace et

extern "C" {
__attribute__((used)) uint32_t et_trapped[et::kRegisters];
}

extern "C" __attribute__((naked, section(".vectors"), used)) void _start() {
  __asm volatile(
      ".weak __global_pointer$\n"
      ".weak __tls_base\n"
      ".option push\n"
      ".option norelax\n"
      "la gp, __global_pointer$\n"
      ".option pop\n"
      "la tp, __tls_base\n"  // picolibc's errno is thread-local
      "la sp, __stack_top\n"
      "j et_start\n");
}

namespace et {
namespace {

// Words up to `end`, 4 at a time: painting the stack is most of start-up.
__attribute__((noinline, optimize("no-tree-loop-distribute-patterns"))) void fill(uint32_t* to, const uint32_t* end,
                                                                                  uint32_t word) {
  for (; to < end - 3; to += 4) {
    to[0] = word;
    to[1] = word;
    to[2] = word;
    to[3] = word;
  }
  while (to < end) {
    *to++ = word;
  }
}

}  // namespace
}  // namespace et

// Before it knows what memory holds: no library call, so the loops must stay loops.
extern "C" __attribute__((noreturn, used, optimize("no-tree-loop-distribute-patterns"))) void et_start() {
  et::counter_init();
#if defined(__riscv_flen)
  __asm volatile("csrs mstatus, %0\n csrw fcsr, zero" ::"r"(1U << 13));  // FS = initial: the floating point unit is on
#endif
  __asm volatile("csrw mtvec, %0\n csrw mscratch, %1" ::"r"(et_trap), "r"(et_trapped));
#if defined(ET_PMP)
  // Where the flash is memory like any other, the image may not be written, by an overflowing stack least of all: of
  // two regions that end at the image and at the stack, the second is locked to reading and executing.
  __asm volatile(
      "csrw pmpaddr0, %0\n csrw pmpaddr1, %1\n csrw pmpcfg0, %2" ::"r"(reinterpret_cast<uint32_t>(__image_start) >> 2),
      "r"(reinterpret_cast<uint32_t>(__stack_bottom) >> 2), "r"(0x8D0F));
#endif
  const uint32_t* from = __data_load;
  for (uint32_t* to = __data_start; to < __data_end;) {
    *to++ = *from++;
  }
  et::fill(__bss_start, __bss_end, 0);
  // What is painted over was used; this function's own frame is at the top.
  et::fill(__stack_bottom, static_cast<const uint32_t*>(__builtin_frame_address(0)) - 16, et::kPaint);
  et::serve();
}

// Registers in the order of schema/link.md: the place of x0, which is always 0, takes the pc. A stack that ran out of
// its memory cannot carry the handler: it goes back to the top, over what is oldest.
extern "C" __attribute__((naked, aligned(4), used)) void et_trap() {
  __asm volatile(
      "csrrw sp, mscratch, sp\n"
      "sw x1, 4(sp)\n sw x3, 12(sp)\n sw x4, 16(sp)\n sw x5, 20(sp)\n sw x6, 24(sp)\n sw x7, 28(sp)\n sw x8, 32(sp)\n"
      "sw x9, 36(sp)\n sw x10, 40(sp)\n sw x11, 44(sp)\n sw x12, 48(sp)\n sw x13, 52(sp)\n sw x14, 56(sp)\n"
      "sw x15, 60(sp)\n sw x16, 64(sp)\n sw x17, 68(sp)\n sw x18, 72(sp)\n sw x19, 76(sp)\n sw x20, 80(sp)\n"
      "sw x21, 84(sp)\n sw x22, 88(sp)\n sw x23, 92(sp)\n sw x24, 96(sp)\n sw x25, 100(sp)\n sw x26, 104(sp)\n"
      "sw x27, 108(sp)\n sw x28, 112(sp)\n sw x29, 116(sp)\n sw x30, 120(sp)\n sw x31, 124(sp)\n"
      "csrr t0, mepc\n sw t0, 0(sp)\n"
      "csrr t0, mcause\n sw t0, 128(sp)\n"
      "csrr t0, mtval\n sw t0, 132(sp)\n"
      "csrr t0, mstatus\n sw t0, 136(sp)\n"
      "csrrw t0, mscratch, sp\n"
      "sw t0, 8(sp)\n"
      "mv sp, t0\n"
      "la t1, __stack_bottom + 256\n"
      "bgeu sp, t1, 1f\n"
      "la sp, __stack_top\n"
      "1: andi sp, sp, -16\n"
      "j et_trap_report\n");
}

extern "C" __attribute__((noreturn, used)) void et_trap_report() {
  const uint32_t sp = et_trapped[2];
  const uint32_t bottom = reinterpret_cast<uint32_t>(__stack_bottom);
  const uint32_t top = reinterpret_cast<uint32_t>(__stack_top);
  const uint32_t from = sp < bottom ? bottom : sp > top ? top : sp & ~3U;
  et::report_fault(et::kCoreRiscv, et_trapped, et::kRegisters, reinterpret_cast<const void*>(from), top - from);
}

namespace et {

void core_exit(uint32_t code) {
#if defined(ET_EXIT_ADDRESS)
  // SiFive's test device: 0x5555 is success, 0x3333 failure with a status in the upper half.
  *reinterpret_cast<volatile uint32_t*>(ET_EXIT_ADDRESS) = code == 0 ? 0x5555 : code << 16 | 0x3333;
#else
  // Semihosting's SYS_EXIT_EXTENDED. Without a debugger or a simulator the breakpoint is a fault, and says so.
  const uint32_t block[2] = {0x20026, code};  // ADP_Stopped_ApplicationExit
  register uint32_t operation __asm("a0") = 0x20;
  register const uint32_t* argument __asm("a1") = block;
  __asm volatile(
      ".option push\n"
      ".option norvc\n"
      ".balign 16\n"  // the three instructions must lie in one page
      "slli x0, x0, 0x1f\n ebreak\n srai x0, x0, 7\n"
      ".option pop\n"
      : "+r"(operation)
      : "r"(argument)
      : "memory");
#endif
  for (;;) {
  }
}

}  // namespace et
