// TIM2 or TIM5 of an STM32 (RM0090, chapter 18): 32 bits, counts up. Right for runs of up to 2^32 ticks. In QEMU it
// counts virtual nanoseconds, so that with -icount shift=N an instruction is exactly 2^N ticks. The clock of the timer
// is on in QEMU; on a chip it is the board's own matter.
// unit: ticks (stm32_timer)
#include "runtime/core.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t control;
  volatile uint32_t unused[8];
  volatile uint32_t count;
  volatile uint32_t prescaler;
  volatile uint32_t reload;
};

Registers& timer() { return *reinterpret_cast<Registers*>(ET_COUNTER_ADDRESS); }

}  // namespace

void counter_init() {
  timer().prescaler = 0;
  timer().reload = 0xFFFFFFFF;
  timer().count = 0;
  timer().control = 1;
}

uint64_t counter_start() { return timer().count; }
uint64_t counter_since(uint64_t start) { return static_cast<uint32_t>(timer().count - static_cast<uint32_t>(start)); }

}  // namespace et
