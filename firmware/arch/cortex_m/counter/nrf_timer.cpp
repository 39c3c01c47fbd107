// TIMER0 of the nRF51 (reference manual 3.0, chapter 19): 32 bits at 16 MHz. Right for runs of up to 2^32 ticks.
// unit: ticks (nrf_timer at 16 MHz)
#include "runtime/core.h"

namespace et {
namespace {

volatile uint32_t& reg(uint32_t offset) { return *reinterpret_cast<volatile uint32_t*>(ET_COUNTER_ADDRESS + offset); }

constexpr uint32_t kStart = 0x000;
constexpr uint32_t kClear = 0x00C;
constexpr uint32_t kCapture0 = 0x040;
constexpr uint32_t kBits = 0x508;
constexpr uint32_t k32Bits = 3;
constexpr uint32_t kPrescaler = 0x510;
constexpr uint32_t kCaptured0 = 0x540;

constexpr uint32_t kTries = 500;

}  // namespace

void counter_init() {
  reg(kBits) = k32Bits;
  reg(kPrescaler) = 0;
  reg(kClear) = 1;
  reg(kStart) = 1;
}

// With QEMU's -icount shift=6 an instruction is 64 ns and a tick 62.5 ns, 128 and 125 times half a nanosecond. The time
// since the last tick grows by 3 of these with each instruction, and two captures one instruction apart are two ticks
// apart when it passes 125; at the second it is then 0, 1 or 2. Twenty instructions later it is 60, 61 or 62, and from
// there ticks * 125 / 128, rounded, is the number of instructions, whatever it is; from an unknown phase it may be one
// off. A round is nine instructions, which have no divisor in common with 125, so that every phase comes by. A timer
// that keeps another time either always shows the pattern or never does.
uint64_t counter_start() {
  uint32_t tries = kTries;
  uint32_t first;
  uint32_t second;
  __asm volatile(
      ".syntax unified\n"
      "1:\n"
      "str %[one], [%[capture], #0]\n"
      "str %[one], [%[capture], #4]\n"
      "ldr %[first], [%[captured], #0]\n"
      "ldr %[second], [%[captured], #4]\n"
      "subs %[second], %[second], %[first]\n"
      "cmp %[second], #2\n"
      "beq 2f\n"
      "subs %[tries], %[tries], #1\n"
      "bne 1b\n"
      "2:\n"
      ".rept 14\n"
      "nop\n"
      ".endr\n"
      "str %[one], [%[capture], #0]\n"
      "ldr %[first], [%[captured], #0]\n"
      : [first] "=&l"(first), [second] "=&l"(second), [tries] "+l"(tries)
      : [capture] "l"(&reg(kCapture0)), [captured] "l"(&reg(kCaptured0)), [one] "l"(1)
      : "cc", "memory");
  return first;
}

uint64_t counter_since(uint64_t start) {
  reg(kCapture0) = 1;
  return reg(kCaptured0) - static_cast<uint32_t>(start);
}

}  // namespace et
