// The rounding rule of integer results (docs/quantization.md): one multiplication, rounded once.
#pragma once

#include <stdint.h>

namespace et {

// ((acc << left_shift) * multiplier + 2^31) >> 32: acc times a real scale, to the nearest, ties up.
inline __attribute__((always_inline)) int32_t requantized(int32_t acc, int32_t multiplier, int32_t left_shift) {
  const int32_t shifted = static_cast<int32_t>(static_cast<uint32_t>(acc) << left_shift);
  return static_cast<int32_t>((static_cast<int64_t>(shifted) * multiplier + (INT64_C(1) << 31)) >> 32);
}

// zero_point + requantized(acc, doubled / 2, 0), for an even `doubled` below 2^31: twice the product's high half, one
// added, halved. Three instructions where there is a multiplication for the high half.
inline __attribute__((always_inline)) int32_t requantized_doubled(int32_t acc, int32_t doubled, int32_t zero_point) {
  const int32_t twice = static_cast<int32_t>((static_cast<int64_t>(acc) * doubled) >> 32);
  return (twice + (2 * zero_point + 1)) >> 1;
}

// nearest: total / count, an even count, to the nearest, ties whichever way. Ties to the even neighbour: where an
// average keeps its scale ties are frequent, and up they would move every average.
inline __attribute__((always_inline)) int32_t tie_to_even(int32_t nearest, int32_t total, int32_t count) {
  const int32_t twice = 2 * (total - nearest * count);
  if ((nearest & 1) == 0 || (twice != count && twice != -count)) return nearest;
  return nearest + (twice > 0 ? 1 : -1);
}

// TFLite's rule, rounded twice: a doubling high multiply, ties up, then a right shift, ties away from zero.
// scale = multiplier * 2^(shift - 31).
inline int32_t requantized_twice(int32_t acc, int32_t multiplier, int32_t shift) {
  const int32_t left = shift > 0 ? shift : 0;
  const int32_t right = shift < 0 ? -shift : 0;
  const int32_t shifted = static_cast<int32_t>(static_cast<uint32_t>(acc) << left);
  const int32_t high = static_cast<int32_t>((static_cast<int64_t>(shifted) * multiplier + (INT64_C(1) << 30)) >> 31);
  const int32_t mask = static_cast<int32_t>((UINT32_C(1) << right) - 1);
  return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0 ? 1 : 0) ? 1 : 0);
}

inline __attribute__((always_inline)) int8_t saturated(int32_t v, int32_t low, int32_t high) {
  return static_cast<int8_t>(v < low ? low : (v > high ? high : v));
}

}  // namespace et
