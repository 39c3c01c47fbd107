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

constexpr int kTries = 24;

}  // namespace

void counter_init() {
  timer().reload = 0xFFFFFFFF;
  timer().value = 0xFFFFFFFF;
  timer().control = 1;
}

// With QEMU's -icount shift=6 an instruction is 64 ns and a tick 40 ns: 8 ticks are 5 instructions. Of five reads in a
// row, one instruction apart, the differences are a stretch of 1 2 1 2 2 1 2 1 2 2 ..., and 1 2 1 2 occurs at only one
// phase: the last read is then 0.4 ticks after its tick. From there ticks * 5 / 8, rounded, is the number of
// instructions, whatever it is; from an unknown phase it may be one off. A timer that keeps another time never shows
// the pattern, and is read as it is.
uint64_t counter_start() {
  for (int i = 0;; ++i) {
    const uint32_t a = timer().value;
    const uint32_t b = timer().value;
    const uint32_t c = timer().value;
    const uint32_t d = timer().value;
    const uint32_t e = timer().value;
    const uint32_t steps = (a - b) << 24 | (b - c) << 16 | (c - d) << 8 | (d - e);
    if (steps == 0x01020102 || i == kTries) {
      return ~e;
    }
    // A loop of 5, 10, ... instructions would meet the same phase for ever: eight tries with each of three lengths.
    for (int j = i >> 3; j > 0; --j) {
      __asm volatile("");
    }
  }
}

uint64_t counter_since(uint64_t start) { return static_cast<uint32_t>(~timer().value - static_cast<uint32_t>(start)); }

}  // namespace et
