// CMSDK APB timer (DDI 0479, section 4.2): 32 bits, counts down. Right for runs of up to 2^32 ticks.
#include "runtime/core.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t control;
  volatile uint32_t value;
  volatile uint32_t reload;
};

Registers& timer() { return *reinterpret_cast<Registers*>(ET_COUNTER_ADDRESS); }

constexpr int kTries = 32;

}  // namespace

void counter_init() {
  timer().reload = 0xFFFFFFFF;
  timer().value = 0xFFFFFFFF;
  timer().control = 1;
}

// With QEMU's -icount shift=6 an instruction is 64 ns and a tick 40 ns: 8 ticks are 5 instructions. Of five reads in a row, one
// instruction apart, the differences are a stretch of 1 2 1 2 2 1 2 1 2 2 ..., and 1 2 1 2 occurs at only one phase: the last read
// is then 0.4 ticks after its tick. From there ticks * 5 / 8, rounded, is the number of instructions, whatever it is; from
// an unknown phase it may be one off. A timer that keeps another time never shows the pattern, and is read as it is.
uint64_t counter_start() {
  for (int i = 0; i < kTries; ++i) {
    const uint32_t a = timer().value;
    const uint32_t b = timer().value;
    const uint32_t c = timer().value;
    const uint32_t d = timer().value;
    const uint32_t e = timer().value;
    if (a - b == 1 && b - c == 2 && c - d == 1 && d - e == 2) {
      return ~e;
    }
  }
  return ~timer().value;
}

uint64_t counter_since(uint64_t start) { return static_cast<uint32_t>(~timer().value - static_cast<uint32_t>(start)); }

}  // namespace et
