// Sums of neighbouring int8 values on Armv7E-M with DSP instructions: 1.25 instructions a value.
#pragma once

#include <stdint.h>

#include "et/dsp.h"
#include "reduce/quantized.h"

namespace et {

struct DspSum {
  static int32_t of(const int8_t* x, int32_t n, int32_t step) {
    return step == 1 ? of_neighbours(x, n) : PortableSum::of(x, n, step);
  }

  static __attribute__((noinline)) int32_t of_neighbours(const int8_t* x, int32_t n) {
    uint32_t raised = 0;  // by 128 each
    for (int32_t quads = n >> 2; quads > 0; --quads) {
      raised = add_four(raised, load4(x) ^ UINT32_C(0x80808080));
      x += 4;
    }
    const int32_t sum = static_cast<int32_t>(raised) - 128 * (n & ~3);
    return sum + PortableSum::of(x, n & 3, 1);
  }
};

}  // namespace et
