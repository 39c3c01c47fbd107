// The chip's clocks and pins, from the lists of the board file: one board differs from another by these numbers alone.
#pragma once

#include <stdint.h>

#include "uart/uart.h"

#if defined(ET_CHIP) || defined(ET_CLOCK_SETUP) || defined(ET_PIN_SETUP) || defined(ET_RESET_CAUSES)
#define ET_HAS_SETUP
#endif

namespace et {

#if defined(ET_HAS_SETUP)
void set_up_chip();
#else
inline void set_up_chip() {}
#endif

#if defined(ET_CHIP)
void chip_init();  // of firmware/chip/<chip>/: what a list of registers cannot say
#endif

// Why the chip was reset, a code of schema/link.md.
#if defined(ET_RESET_CAUSES)
uint8_t reset_cause();
#else
inline uint8_t reset_cause() { return 0; }
#endif

// Of the core, in Hz; 0 where the board file does not say.
inline uint32_t clock_hz() {
#if defined(ET_CLOCK_SETUP)
  return clock_is_set() ? ET_CLOCK_HZ : ET_CLOCK_RESET_HZ;
#elif defined(ET_CLOCK_HZ)
  return ET_CLOCK_HZ;
#else
  return 0;
#endif
}

}  // namespace et
