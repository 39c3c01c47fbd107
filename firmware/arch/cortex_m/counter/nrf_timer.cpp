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

}  // namespace

void counter_init() {
  reg(kBits) = k32Bits;
  reg(kPrescaler) = 0;
  reg(kClear) = 1;
  reg(kStart) = 1;
}

uint64_t counter_start() {
  reg(kCapture0) = 1;
  return reg(kCaptured0);
}

uint64_t counter_since(uint64_t start) {
  reg(kCapture0) = 1;
  return reg(kCaptured0) - static_cast<uint32_t>(start);
}

}  // namespace et
