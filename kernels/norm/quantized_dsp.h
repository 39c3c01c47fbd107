// Normalisation of int8 on cores with DSP instructions: 16 instructions an element in sets of 256, 21 in sets of 64.
#pragma once

#include <stdint.h>

#include "et/dsp.h"
#include "norm/quantized.h"

namespace et {

struct DspNorm {
  static inline __attribute__((always_inline)) void add_moments(int32_t n, const int8_t* x, int32_t step, int32_t& sum,
                                                                int32_t& squares) {
    const uint32_t ones = two_of(1);
    for (; step == 1 && n >= 4; n -= 4) {
      const uint32_t word = load4(x);
      const uint32_t even = even_bytes(word);
      const uint32_t odd = odd_bytes(word);
      sum = multiply_both(even, ones, multiply_both(odd, ones, sum));
      squares = multiply_both(even, even, multiply_both(odd, odd, squares));
      x += 4;
    }
    PortableNorm::add_moments(n, x, step, sum, squares);
  }

  static inline __attribute__((always_inline)) int32_t scaled(int32_t add, int32_t v, int32_t multiplier) {
    return requantized_to(add, v, multiplier);
  }

  static inline __attribute__((always_inline)) int8_t stored(int32_t v) { return saturated8(v); }
};

}  // namespace et
