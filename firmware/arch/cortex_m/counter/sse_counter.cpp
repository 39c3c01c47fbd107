// System counter of Arm's SSE-300 (TRM 101773, section "System Counter"): 64 bits, counts up.
// unit: ticks (sse_counter at 32 MHz)
#include "runtime/core.h"

namespace et {
namespace {

struct Registers {  // its control frame
  volatile uint32_t control;
  volatile uint32_t status;
  volatile uint32_t low;
  volatile uint32_t high;
};

Registers& counter() { return *reinterpret_cast<Registers*>(ET_COUNTER_ADDRESS); }

uint64_t now() {
  for (;;) {
    const uint32_t high = counter().high;
    const uint32_t low = counter().low;
    if (high == counter().high) {
      return static_cast<uint64_t>(high) << 32 | low;
    }
  }
}

}  // namespace

void counter_init() {
  counter().control = 0;  // it is set while it stands still
  counter().low = 0;
  counter().high = 0;
  counter().control = 1;
}

uint64_t counter_start() { return now(); }
uint64_t counter_since(uint64_t start) { return now() - start; }

}  // namespace et
