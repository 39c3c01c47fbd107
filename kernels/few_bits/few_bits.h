// Weights in 4, 8 or 16 bits beside activations of floats: linear layers and tables of embeddings. Weights stay in
// flash as they are stored and become floats in registers.
//
// A row of weights takes whole groups of eight elements. What is stored of a weight w = (q - zero point) * scale is
// q + 2^(bits - 1), unsigned, in 4 bits (two a byte, the low one first) or in 8; in 16 bits it is the float itself,
// float16 or bfloat16. Scales are [row][group], `group` elements of a row each; zero points, where there are any, too.
#pragma once

#include <stdint.h>
#include <string.h>

#include "et/arithmetic.h"

namespace et {

inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

struct Nibbles {
  static constexpr int32_t kBytesOfEight = 4;
  static int32_t integer(const uint8_t* row, int32_t i, int32_t zero) {
    return (row[i / 2] >> (i % 2 * 4) & 15) - zero;
  }
  static float at(const uint8_t* row, int32_t i, int32_t zero) { return static_cast<float>(integer(row, i, zero)); }
};

struct Bytes {
  static constexpr int32_t kBytesOfEight = 8;
  static int32_t integer(const uint8_t* row, int32_t i, int32_t zero) { return row[i] - zero; }
  static float at(const uint8_t* row, int32_t i, int32_t zero) { return static_cast<float>(integer(row, i, zero)); }
};

struct BFloat16 {
  static constexpr int32_t kBytesOfEight = 16;
  static float at(const uint8_t* row, int32_t i, int32_t) {
    return float_of_bits(static_cast<uint32_t>(row[2 * i] | row[2 * i + 1] << 8) << 16);
  }
};

struct Float16 {
  static constexpr int32_t kBytesOfEight = 16;
  static float at(const uint8_t* row, int32_t i, int32_t) {
    const uint32_t half = static_cast<uint32_t>(row[2 * i] | row[2 * i + 1] << 8);
    const uint32_t sign = (half & 0x8000) << 16;
    const uint32_t rest = half & 0x7fff;
    // infinities and NaNs keep the highest exponent; the others move by the difference of the biases, in a product, so
    // that subnormal ones become normal
    return rest < 0x7c00 ? float_of_bits(sign | rest << 13) * 0x1p112f
                         : float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  }
};

inline int32_t row_bytes(int32_t elements, int32_t bytes_of_eight) { return (elements + 7) / 8 * bytes_of_eight; }

// G: positions, inputs, outputs; group (elements of one scale), zero (what stands for 0 where no zero points are); low,
// high. (positions, inputs) -> (positions, outputs).
template <class Stored, class G>
__attribute__((noinline)) void few_bits_linear(const G& g, float* out, const float* x, const uint8_t* weight,
                                               const float* scales, const int8_t* zero_points, const float* bias,
                                               const float* residual) {
  const int32_t groups = g.inputs / g.group;
  for (int32_t position = 0; position < g.positions; ++position) {
    const uint8_t* row = weight;
    for (int32_t o = 0; o < g.outputs; ++o) {
      float total = 0.0f;
      for (int32_t group = 0; group < groups; ++group) {
        const int32_t at = o * groups + group;
        const int32_t zero = g.zero + (zero_points == nullptr ? 0 : zero_points[at]);
        float sum = 0.0f;
        for (int32_t i = group * g.group; i < (group + 1) * g.group; ++i) {
          sum += x[i] * Stored::at(row, i, zero);
        }
        total += scales == nullptr ? sum : sum * scales[at];
      }
      total = bias == nullptr ? total : total + bias[o];
      total = residual == nullptr ? total : total + *residual++;
      *out++ = clamped(total, g.low, g.high);
      row += row_bytes(g.inputs, Stored::kBytesOfEight);
    }
    x += g.inputs;
  }
}

// For each index a row of a table, as floats; of one out of range NaNs. G: count (indices), rows, elements (of a row),
// group, zero, unit (what rows without scales are multiplied by).
template <class Stored, class G, class Index>
void few_bits_embedding(const G& g, float* out, const uint8_t* weight, const float* scales, const int8_t* zero_points,
                        const Index* index) {
  const int32_t groups = g.elements / g.group;
  for (int32_t at = 0; at < g.count; ++at) {
    const int64_t wide = index[at];
    const bool inside = wide >= 0 && wide < g.rows;
    const int32_t found = inside ? static_cast<int32_t>(wide) : 0;
    const uint8_t* const row = weight + found * row_bytes(g.elements, Stored::kBytesOfEight);
    for (int32_t i = 0; i < g.elements; ++i) {
      const int32_t group = found * groups + i / g.group;
      const int32_t zero = g.zero + (zero_points == nullptr ? 0 : zero_points[group]);
      const float value = Stored::at(row, i, zero) * (scales == nullptr ? g.unit : scales[group]);
      *out++ = inside ? value : __builtin_nanf("");
    }
  }
}

}  // namespace et
