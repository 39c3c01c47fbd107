// Image and stack where the linker script places them: the half of core.h that is the same on every core without an
// operating system. For the one start.cpp of a core to include.
#pragma once

#include <stdint.h>

#include "runtime/core.h"

extern "C" {
extern const uint8_t __image_start[], __image_end[];
extern const uint32_t __data_load[];
extern uint32_t __data_start[], __data_end[], __bss_start[], __bss_end[], __stack_bottom[], __stack_top[];
}

namespace et {

constexpr uint32_t kPaint = 0xC5C5C5C5;  // what the stack is filled with at start

bool image_part(uint32_t index, const uint8_t** start, uint32_t* bytes) {
  *start = __image_start;
  *bytes = static_cast<uint32_t>(__image_end - __image_start);
  return index == 0;
}

uint32_t stack_bytes() { return static_cast<uint32_t>(__stack_top - __stack_bottom) * 4; }

uint32_t stack_used() {
  const uint32_t* p = __stack_bottom;
  while (p < __stack_top && *p == kPaint) {
    ++p;
  }
  return static_cast<uint32_t>(__stack_top - p) * 4;
}

}  // namespace et
