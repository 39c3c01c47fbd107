// SysTick (ARMv7-M reference manual, section B3.3): 24 bits, counts down, and an interrupt a wrap makes it longer. The
// interrupt is part of what is counted: about twenty instructions every 16.8 million ticks.
// unit: cycles (systick)
#include "runtime/core.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t control;
  volatile uint32_t reload;
  volatile uint32_t value;
};

constexpr uint32_t kMask = 0xFFFFFF;
constexpr uint32_t kEnableProcessorClockInterrupt = 7;
// In .noinit, because it runs before .bss is cleared; counter_init() sets it.
__attribute__((section(".noinit"))) volatile uint32_t wraps;

Registers& timer() { return *reinterpret_cast<Registers*>(0xE000E010); }

uint64_t now() {
  uint32_t before = wraps;
  for (;;) {
    const uint32_t value = timer().value;
    const uint32_t after = wraps;
    if (before == after) {
      return (static_cast<uint64_t>(before) << 24) + (kMask - (value & kMask));
    }
    before = after;
  }
}

}  // namespace

extern "C" void et_systick() { wraps = wraps + 1; }

void counter_init() {
  wraps = 0;
  timer().reload = kMask;
  timer().value = 0;
  timer().control = kEnableProcessorClockInterrupt;
}

uint64_t counter_start() { return now(); }
uint64_t counter_since(uint64_t start) { return now() - start; }

}  // namespace et
