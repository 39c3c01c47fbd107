// Rows of activations as integers of 8 bits, with a scale and a zero point that each row has of its own, and linear
// layers of such rows with weights in few bits: a sum of a group is an integer, the same on every core.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "few_bits/few_bits.h"

namespace et {

// What is stored of x is round(x / scale) + zero, in [-128, 127].
struct RowScale {
  float scale;
  float inverse;
  int32_t zero;

  // What x becomes, without the zero point: in [-255, 255].
  int32_t rounded(float x) const {
    const float inside = clamped(x * inverse, static_cast<float>(-128 - zero), static_cast<float>(127 - zero));
    return inside != inside ? 0 : static_cast<int32_t>(nearest(inside));
  }
};

inline RowScale scale_of_row(const float* x, int32_t elements) {
  float low = 0.0f, high = 0.0f;
  for (int32_t i = 0; i < elements; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  const float exact = (high - low) / 255.0f;
  const float scale = exact < 0x1p-23f ? 0x1p-23f : exact;
  const int32_t zero = -128 - static_cast<int32_t>(nearest(low / scale));
  return {scale, 1.0f / scale, zero > 127 ? 127 : zero};
}

// G: rows, elements.
template <class G>
void round_rows(const G& g, float* out, const float* x) {
  for (int32_t row = 0; row < g.rows; ++row) {
    const RowScale scale = scale_of_row(x, g.elements);
    for (int32_t i = 0; i < g.elements; ++i) {
      *out++ = static_cast<float>(scale.rounded(*x++)) * scale.scale;
    }
  }
}

// The G of few_bits_linear. `row` has room for the integers of a row.
template <class Stored, class G>
__attribute__((noinline)) void few_bits_dynamic(const G& g, float* out, const float* x, const uint8_t* weight,
                                                const float* scales, const int8_t* zero_points, const float* bias,
                                                const float* residual, int16_t* row) {
  const int32_t groups = g.inputs / g.group;
  for (int32_t position = 0; position < g.positions; ++position) {
    const RowScale scale = scale_of_row(x, g.inputs);
    for (int32_t i = 0; i < g.inputs; ++i) {
      row[i] = static_cast<int16_t>(scale.rounded(*x++));
    }
    const uint8_t* w = weight;
    for (int32_t o = 0; o < g.outputs; ++o) {
      float total = 0.0f;
      for (int32_t group = 0; group < groups; ++group) {
        const int32_t at = o * groups + group;
        const int32_t zero = g.zero + (zero_points == nullptr ? 0 : zero_points[at]);
        int32_t sum = 0;
        for (int32_t i = group * g.group; i < (group + 1) * g.group; ++i) {
          sum += row[i] * Stored::integer(w, i, zero);
        }
        total += static_cast<float>(sum) * scales[at];
      }
      total = total * scale.scale;
      total = bias == nullptr ? total : total + bias[o];
      total = residual == nullptr ? total : total + *residual++;
      *out++ = clamped(total, g.low, g.high);
      w += row_bytes(g.inputs, Stored::kBytesOfEight);
    }
  }
}

}  // namespace et
