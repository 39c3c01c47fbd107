// Start-up, faults and exit of Cortex-M (ARMv7-M reference manual DDI 0403, sections B1.5 and B3.2).
#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include <stdint.h>

#include "arch/linked.h"
#include "runtime/core.h"
#include "runtime/fault.h"

extern "C" {
void _start();
void et_fault();
void et_systick();
}

namespace et {
namespace {

[[maybe_unused]] volatile uint32_t& reg(uint32_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

struct Vectors {
  uint32_t* stack;
  void (*handlers[15])();
};

// After the stack: reset, NMI, HardFault, MemManage, BusFault, UsageFault, 4 reserved, SVCall, debug, reserved, PendSV,
// SysTick.
__attribute__((section(".vectors"), used))
const Vectors vectors = {__stack_top,
                         {_start, et_fault, et_fault, et_fault, et_fault, et_fault, nullptr, nullptr, nullptr, nullptr,
                          et_fault, et_fault, nullptr, et_fault, et_systick}};

// Words up to `end`, 4 at a time: painting the stack is most of start-up.
__attribute__((noinline)) void fill(uint32_t* to, const uint32_t* end, uint32_t word) {
  const uint32_t* const last = end - 3;
  __asm volatile(
      ".syntax unified\n"
      "mov r4, %[word]\n mov r5, %[word]\n mov r6, %[word]\n mov r7, %[word]\n"
      "b 2f\n"
      "1:\n"
      "stm %[to]!, {r4-r7}\n"
      "2:\n"
      "cmp %[to], %[last]\n blo 1b\n"
      "b 4f\n"
      "3:\n"
      "stm %[to]!, {r4}\n"
      "4:\n"
      "cmp %[to], %[end]\n blo 3b\n"
      : [to] "+l"(to)
      : [word] "l"(word), [last] "l"(last), [end] "l"(end)
      : "r4", "r5", "r6", "r7", "cc", "memory");
}

}  // namespace
}  // namespace et

// Before it knows what memory holds: no library call, so the loops must stay loops.
extern "C" __attribute__((noreturn, optimize("no-tree-loop-distribute-patterns"))) void _start() {
  et::counter_init();
#if defined(__ARM_FP)
  et::reg(0xE000ED88) = et::reg(0xE000ED88) | 0xFU << 20;  // CPACR: coprocessors 10 and 11, the floating point unit
  __asm volatile("dsb\n isb" ::: "memory");
#endif
  const uint32_t* from = __data_load;
  for (uint32_t* to = __data_start; to < __data_end;) {
    *to++ = *from++;
  }
  et::fill(__bss_start, __bss_end, 0);
  // What is painted over was used; this function's own frame is at the top.
  et::fill(__stack_bottom, static_cast<const uint32_t*>(__builtin_frame_address(0)) - 16, et::kPaint);
#if __ARM_ARCH >= 7
  // Memory, bus and usage faults come as what they are, so that one on a broken stack can still become a hard fault.
  et::reg(0xE000ED24) = et::reg(0xE000ED24) | 7U << 16;
#endif
  et::serve();
}

// A stack that ran out of its memory cannot carry the handler: it goes back to the top, over what is oldest.
extern "C" __attribute__((naked)) void et_fault() {
  __asm volatile(
      "mov r0, sp\n"
      "mov r1, lr\n"
      "ldr r2, =__stack_bottom + 256\n"
      "cmp r0, r2\n"
      "bhs 1f\n"
      "ldr r2, =__stack_top\n"
      "mov sp, r2\n"
      "1: bl et_fault_report\n"
      ".ltorg\n");
}

extern "C" __attribute__((weak, nothrow, alias("et_fault"))) void et_systick();

extern "C" __attribute__((noreturn, used)) void et_fault_report(const uint32_t* frame, uint32_t exc_return) {
  static uint32_t registers[13];  // zeros, without a call of memset
  const uint32_t* stack = frame;
  if (frame >= __stack_bottom && frame + 8 <= __stack_top) {
    // pushed by the core: r0 r1 r2 r3 r12 lr pc xpsr, and 18 words of the floating point unit where bit 4 is 0
    const uint32_t pushed[] = {frame[6], frame[5], 0, frame[7], frame[0], frame[1], frame[2], frame[3], frame[4]};
    for (uint32_t i = 0; i < 9; ++i) {
      registers[i] = pushed[i];
    }
    stack += exc_return & 1U << 4 ? 8 : 26;
    stack += frame[7] >> 9 & 1U;  // a word that kept the stack aligned
  } else if (frame < __stack_bottom) {
    stack = __stack_bottom;
  } else {
    stack = __stack_top;
  }
  registers[2] = reinterpret_cast<uint32_t>(stack);
#if __ARM_ARCH >= 7
  registers[9] = et::reg(0xE000ED28);
  registers[10] = et::reg(0xE000ED2C);
  registers[11] = et::reg(0xE000ED34);
  registers[12] = et::reg(0xE000ED38);
#endif
  const uint32_t bytes = static_cast<uint32_t>(__stack_top - stack) * 4;
  et::report_fault(et::kCoreCortexM, registers, 13, stack, bytes);
}

namespace et {

// Semihosting's SYS_EXIT_EXTENDED. Without a debugger or a simulator the breakpoint is a fault, and says so.
void core_exit(uint32_t code) {
  const uint32_t block[2] = {0x20026, code};  // ADP_Stopped_ApplicationExit
  register uint32_t operation __asm("r0") = 0x20;
  register const uint32_t* argument __asm("r1") = block;
  __asm volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
  for (;;) {
  }
}

}  // namespace et
