// Softmax of int8 values to probabilities in steps of 1/256, zero point -128. out may be the memory of self.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides of all other dimensions; length, out_step, self_step along the one that is
// normalised. powers[d] is exp(-d * scale) in fixed point, for a value d below the largest; n of them fit 32 bits.
template <class G, class Power>
void quantized_softmax(const G& g, int8_t* out, const int8_t* self, const Power* powers) {
  const int32_t n = g.length;
  const int32_t out_step = g.out_step;
  const int32_t self_step = g.self_step;
  const auto line = [&](int32_t to, int32_t from) {
    const int8_t* const x = self + from;
    int32_t top = -128;
    const int8_t* at = x;
    unrolled(n, [&](int32_t) {
      top = larger(top, *at);
      at += self_step;
    });
    // a value v has powers[top - v]
    uint32_t sum = 0;
    at = x;
    unrolled(n, [&](int32_t) {
      sum += static_cast<uint32_t>(powers[top - *at]);
      at += self_step;
    });
    const uint32_t half = sum >> 1;
    int8_t* y = out + to;
    at = x;
    for (int32_t i = 0; i < n; ++i) {
      const uint32_t power = static_cast<uint32_t>(powers[top - *at]);
      at += self_step;
      const int32_t probability = static_cast<int32_t>(((power << 8) + half) / sum);
      *y = static_cast<int8_t>(smaller(probability, 255) - 128);
      y += out_step;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
