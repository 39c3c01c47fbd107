// SysTick (ARMv7-M reference manual, section B3.3): 24 bits, counts down, and an interrupt a wrap makes it longer. The
// interrupt is part of what is counted: about twenty instructions every 16.8 million ticks. A measurement starts it
// anew, so that no wrap comes inside one that is shorter.
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
constexpr uint32_t kEnableProcessorClock = 5;
constexpr uint32_t kInterrupt = 2;
constexpr uint32_t kNotPending = 1U << 25;
// In .noinit, because they run before .bss is cleared; counter_init() sets them. Volatile words: of 64 bits at once the
// compiler would make a floating point register, before there are any.
__attribute__((section(".noinit"))) volatile uint32_t wraps;
__attribute__((section(".noinit"))) volatile uint32_t before[2];  // ticks until it was started anew, low and high

Registers& timer() { return *reinterpret_cast<Registers*>(0xE000E010); }
volatile uint32_t& interrupt_state() { return *reinterpret_cast<volatile uint32_t*>(0xE000ED04); }

uint64_t now() {
  uint32_t seen = wraps;
  for (;;) {
    const uint32_t value = timer().value;
    const uint32_t after = wraps;
    if (seen == after) {
      const uint64_t earlier = static_cast<uint64_t>(before[1]) << 32 | before[0];
      return earlier + (static_cast<uint64_t>(seen) << 24) + (kMask - (value & kMask));
    }
    seen = after;
  }
}

// Any value written is 0, and the next tick loads the counter. Without the interrupt meanwhile: a core whose timer
// takes that 0 for a wrap (rp2040js) must not count one.
void restart() {
  timer().control = kEnableProcessorClock;
  wraps = 0;
  timer().value = 0;
  while (timer().value == 0) {
  }
  interrupt_state() = kNotPending;
  timer().control = kEnableProcessorClock | kInterrupt;
}

}  // namespace

extern "C" void et_systick() { wraps = wraps + 1; }

void counter_init() {
  before[0] = 0;
  before[1] = 0;
  timer().reload = kMask;
  restart();
}

uint64_t counter_start() {
  const uint64_t ticks = now();
  before[0] = static_cast<uint32_t>(ticks);
  before[1] = static_cast<uint32_t>(ticks >> 32);
  restart();
  return now();
}

uint64_t counter_since(uint64_t start) { return now() - start; }

}  // namespace et
