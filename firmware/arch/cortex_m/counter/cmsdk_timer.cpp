// CMSDK APB timer (DDI 0479, section 4.2): 32 bits, counts down. Right for runs of up to 2^32 ticks.
// unit: ticks (cmsdk_timer)
#include "runtime/core.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t control;
  volatile uint32_t value;
  volatile uint32_t reload;
};

Registers& timer() { return *reinterpret_cast<Registers*>(ET_COUNTER_ADDRESS); }

constexpr uint32_t kTries = 24;

}  // namespace

void counter_init() {
  timer().reload = 0xFFFFFFFF;
  timer().value = 0xFFFFFFFF;
  timer().control = 1;
}

// With QEMU's -icount shift=6 an instruction is 64 ns and a tick 40 ns: 8 ticks are 5 instructions. Of two reads one
// instruction apart the second is 1 or 2 ticks later; where it is 2, the second is 0, 0.2 or 0.4 ticks after its tick.
// From there ticks * 5 / 8, rounded, is the number of instructions, whatever it is; from an unknown phase it may be one
// off. A round is seven instructions, so that the next one meets another phase. In assembler, because the compiler
// would put instructions between the reads, and leave the loop at more than one place. A timer that keeps another time
// may never show the difference, and is read as it is.
uint64_t counter_start() {
  uint32_t tries = kTries;
  uint32_t first;
  uint32_t second;
  __asm volatile(
      ".syntax unified\n"
      "1:\n"
      "ldr %[first], [%[value]]\n"
      "ldr %[second], [%[value]]\n"
      "subs %[first], %[first], %[second]\n"
      "cmp %[first], #2\n"
      "beq 2f\n"
      "subs %[tries], %[tries], #1\n"
      "bne 1b\n"
      "2:\n"
      : [first] "=&l"(first), [second] "=&l"(second), [tries] "+l"(tries)
      : [value] "l"(&timer().value)
      : "cc", "memory");
  return ~second;
}

uint64_t counter_since(uint64_t start) { return static_cast<uint32_t>(~timer().value - static_cast<uint32_t>(start)); }

}  // namespace et
