// nRF52: what depends on the die.
#include <stdint.h>

#include "runtime/setup.h"

namespace et {
namespace {

volatile uint32_t& reg(uint32_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

constexpr uint32_t kPart = 0x10000130;
constexpr uint32_t kRevision = 0x10000134;
constexpr uint32_t kProtectDisable = 0x40000558;
constexpr uint32_t kOpen = 0x5A;

}  // namespace

// Dies from this revision of the nRF52840 on lock the debug port at each reset, unless firmware opens it (anomaly 249).
// Older ones do not have the register.
void chip_init() {
  if (reg(kPart) == 8 && reg(kRevision) >= 5) {
    reg(kProtectDisable) = kOpen;
  }
}

}  // namespace et
