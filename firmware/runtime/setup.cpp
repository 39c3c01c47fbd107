#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include "runtime/setup.h"

namespace et {
namespace {

[[maybe_unused]] volatile uint32_t& reg(uint32_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

// For all waits of a list together. A crystal takes a few milliseconds; this is some tenths of a second even on a slow
// clock. A part that never gets ready (no crystal, a simulator without a PLL) must not keep the board silent.
constexpr uint32_t kMostReads = 200000;

// A list of address, mask, value, as etexport/hardware.py writes it. Bit 0 of the address says wait, until the bits of
// the mask have the value; else they get it, and a mask of all bits reads nothing first. False at the first wait that
// is in vain; what comes after it is not done.
[[maybe_unused]] bool replay(const uint32_t* words, uint32_t count) {
  uint32_t reads = 0;
  for (const uint32_t* at = words; at < words + count; at += 3) {
    const uint32_t mask = at[1];
    const uint32_t value = at[2];
    if (at[0] & 1U) {
      while ((reg(at[0] - 1U) & mask) != value) {
        if (++reads == kMostReads) {
          return false;
        }
      }
    } else if (mask == 0xFFFFFFFF) {
      reg(at[0]) = value;
    } else {
      reg(at[0]) = (reg(at[0]) & ~mask) | value;
    }
  }
  return true;
}

#if defined(ET_CLOCK_SETUP)
bool is_set;
#endif
#if defined(ET_RESET_CAUSES)
uint8_t cause;
#endif

}  // namespace

#if defined(ET_CLOCK_SETUP)
bool clock_is_set() { return is_set; }
#else
bool clock_is_set() { return true; }
#endif

#if defined(ET_RESET_CAUSES)
uint8_t reset_cause() { return cause; }
#endif

#if defined(ET_HAS_SETUP)
void set_up_chip() {
#if defined(ET_RESET_CAUSES)
  // First of all, and once: what is read is cleared, so that the next reset has a cause of its own.
  static constexpr uint32_t kCauses[] = {ET_RESET_CAUSES};  // address, mask, value, cause
  for (const uint32_t* at = kCauses; at < kCauses + sizeof(kCauses) / 4; at += 4) {
    if (at[1] == 0 || (reg(at[0]) & at[1]) == at[2]) {
      cause = static_cast<uint8_t>(at[3]);
      break;
    }
  }
#endif
#if defined(ET_RESET_CLEAR)
  static constexpr uint32_t kClear[] = {ET_RESET_CLEAR};
  replay(kClear, sizeof(kClear) / 4);
#endif
#if defined(ET_CHIP)
  chip_init();
#endif
#if defined(ET_CLOCK_SETUP)
  static constexpr uint32_t kClock[] = {ET_CLOCK_SETUP};
  is_set = replay(kClock, sizeof(kClock) / 4);
#endif
#if defined(ET_PIN_SETUP)
  static constexpr uint32_t kPins[] = {ET_PIN_SETUP};
  replay(kPins, sizeof(kPins) / 4);
#endif
}
#endif

}  // namespace et
