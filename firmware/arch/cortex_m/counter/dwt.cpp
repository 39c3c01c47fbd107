// Cycle counter of the debug unit (ARMv7-M reference manual, section C1.8): 32 bits, on M3 and larger. QEMU's stands
// still. ET_DWT_LOCK is its lock's address on a core that has one, as the Cortex-M7.
// unit: cycles (dwt)
#include "runtime/core.h"

namespace et {
namespace {

volatile uint32_t& reg(uint32_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

constexpr uint32_t kDemcr = 0xE000EDFC;
constexpr uint32_t kTraceEnable = 1U << 24;
constexpr uint32_t kControl = 0xE0001000;
constexpr uint32_t kCycles = 0xE0001004;

}  // namespace

void counter_init() {
  reg(kDemcr) = reg(kDemcr) | kTraceEnable;
#if defined(ET_DWT_LOCK)
  reg(ET_DWT_LOCK) = 0xC5ACCE55;  // CoreSight's key: without it writes to the unit do nothing
#endif
  reg(kCycles) = 0;
  reg(kControl) = reg(kControl) | 1U;
}

uint64_t counter_start() { return reg(kCycles); }
uint64_t counter_since(uint64_t start) { return reg(kCycles) - static_cast<uint32_t>(start); }

}  // namespace et
