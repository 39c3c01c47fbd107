// Sums and products of int8 tensors. out may be the memory of either operand of its size.
#pragma once

#include <stdint.h>

#include "et/requantize.h"
#include "et/strided.h"

namespace et {

// (a * self_multiplier + b * other_multiplier + constant) >> shift: 16-bit multipliers; the constant has both zero
// points, the output's, and the half that rounds.
template <class G>
void quantized_add(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t ma = g.self_multiplier;
  const int32_t mb = g.other_multiplier;
  const int32_t constant = g.constant;
  zip(g, out, self, other,
      [&](int8_t a, int8_t b) { return saturated((a * ma + b * mb + constant) >> g.shift, g.low, g.high); });
}

// The same with TFLite's roundings, as ExecuTorch defines it: both operands, scaled up by 2^20, come to one scale, then
// their sum to the output's.
template <class G>
void quantized_add_twice(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t za = g.self_zero_point;
  const int32_t zb = g.other_zero_point;
  zip(g, out, self, other, [&](int8_t a, int8_t b) {
    const int32_t x = requantized_twice((a - za) * (1 << 20), g.self_multiplier, g.self_shift);
    const int32_t y = requantized_twice((b - zb) * (1 << 20), g.other_multiplier, g.other_shift);
    return saturated(requantized_twice(x + y, g.multiplier, g.shift) + g.zero_point, g.low, g.high);
  });
}

// zero_point + requantised (a - self_zero_point) * (b - other_zero_point)
template <class G>
void quantized_mul(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t za = g.self_zero_point;
  const int32_t zb = g.other_zero_point;
  zip(g, out, self, other, [&](int8_t a, int8_t b) {
    return saturated(requantized((a - za) * (b - zb), g.multiplier, g.left_shift) + g.zero_point, -128, 127);
  });
}

template <class G>
void quantized_mul_twice(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t za = g.self_zero_point;
  const int32_t zb = g.other_zero_point;
  zip(g, out, self, other, [&](int8_t a, int8_t b) {
    return saturated(requantized_twice((a - za) * (b - zb), g.multiplier, g.shift) + g.zero_point, -128, 127);
  });
}

}  // namespace et
