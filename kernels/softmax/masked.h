// Softmax of those int8 values that a mask keeps, to probabilities in steps of 1/256, zero point -128; the others get
// 0. out may be the memory of self.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides, mask_strides (0 where the mask repeats) of all other dimensions; length,
// out_step, self_step, mask_step along the one that is normalised; whole, what a line of which nothing is kept gives. A
// value is kept where the mask is kKeeps. powers[d] is exp(-d * scale) in fixed point, for a value d below the largest;
// n of them fit 32 bits.
template <bool kKeeps, class G, class Power>
void quantized_masked_softmax(const G& g, int8_t* out, const int8_t* self, const bool* mask, const Power* powers) {
  constexpr int32_t kNone = -129;
  const int32_t n = g.length;
  const int32_t out_step = g.out_step;
  const int32_t self_step = g.self_step;
  const int32_t mask_step = g.mask_step;
  const auto line = [&](int32_t to, int32_t from, int32_t over) {
    const int8_t* const x = self + from;
    const bool* const m = mask + over;
    int32_t top = kNone;
    const int8_t* at = x;
    const bool* kept = m;
    unrolled(n, [&](int32_t) {
      if (*kept == kKeeps) {
        top = larger(top, *at);
      }
      at += self_step;
      kept += mask_step;
    });
    int8_t* y = out + to;
    if (top == kNone) {
      for (int32_t i = 0; i < n; ++i) {
        *y = static_cast<int8_t>(g.whole);
        y += out_step;
      }
      return;
    }
    // a value v has powers[top - v]
    uint32_t sum = 0;
    at = x;
    kept = m;
    unrolled(n, [&](int32_t) {
      if (*kept == kKeeps) {
        sum += static_cast<uint32_t>(powers[top - *at]);
      }
      at += self_step;
      kept += mask_step;
    });
    const uint32_t half = sum >> 1;
    at = x;
    kept = m;
    for (int32_t i = 0; i < n; ++i) {
      int32_t probability = 0;
      if (*kept == kKeeps) {
        probability =
            smaller(static_cast<int32_t>(((static_cast<uint32_t>(powers[top - *at]) << 8) + half) / sum), 255);
      }
      *y = static_cast<int8_t>(probability - 128);
      at += self_step;
      kept += mask_step;
      y += out_step;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides},
                                      Cursor{0, g.mask_strides});
}

}  // namespace et
