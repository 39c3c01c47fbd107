// The rounding rule of integer results (docs/quantization.md): one multiplication, rounded once.
#pragma once

#include <stdint.h>

namespace et {

// ((acc << left_shift) * multiplier + 2^31) >> 32: acc times a real scale, to the nearest, ties up.
inline __attribute__((always_inline)) int32_t requantized(int32_t acc, int32_t multiplier, int32_t left_shift) {
  const int32_t shifted = static_cast<int32_t>(static_cast<uint32_t>(acc) << left_shift);
  return static_cast<int32_t>((static_cast<int64_t>(shifted) * multiplier + (INT64_C(1) << 31)) >> 32);
}

inline __attribute__((always_inline)) int8_t saturated(int32_t v, int32_t low, int32_t high) {
  return static_cast<int8_t>(v < low ? low : (v > high ? high : v));
}

}  // namespace et
