// Sums and products of int8 tensors. out may be the memory of either operand of its size.
#pragma once

#include <stdint.h>

#include "et/requantize.h"
#include "et/strided.h"

namespace et {

// out[...] = f(self[...], other[...]) with broadcasting. G: sizes, out_strides, self_strides, other_strides (0 where an operand repeats).
template <class G, class F>
inline __attribute__((always_inline)) void zip8(const G& g, int8_t* out, const int8_t* self, const int8_t* other,
                                                const F& f) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const int32_t other_step = g.other_strides[kInner];
  const auto row = [&](int32_t to, int32_t left, int32_t right) {
    int8_t* const o = out + to;
    const int8_t* const a = self + left;
    const int8_t* const b = other + right;
    if (out_step == 1 && self_step == 1 && other_step == 1) {
      unrolled(n, [&](int32_t i) { o[i] = f(a[i], b[i]); });
    } else {
      for (int32_t i = 0; i < n; ++i) {
        o[i * out_step] = f(a[i * self_step], b[i * other_step]);
      }
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.other_strides});
}

// (a * self_multiplier + b * other_multiplier + constant) >> shift: 16-bit multipliers; the constant has both zero points, the
// output's, and the half that rounds.
template <class G>
void quantized_add(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t ma = g.self_multiplier;
  const int32_t mb = g.other_multiplier;
  const int32_t constant = g.constant;
  zip8(g, out, self, other,
       [&](int8_t a, int8_t b) { return saturated((a * ma + b * mb + constant) >> g.shift, g.low, g.high); });
}

// zero_point + requantised (a - self_zero_point) * (b - other_zero_point)
template <class G>
void quantized_mul(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t za = g.self_zero_point;
  const int32_t zb = g.other_zero_point;
  zip8(g, out, self, other, [&](int8_t a, int8_t b) {
    return saturated(requantized((a - za) * (b - zb), g.multiplier, g.left_shift) + g.zero_point, -128, 127);
  });
}

}  // namespace et
