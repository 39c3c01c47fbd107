// Scalar arithmetic that kernels share.
#pragma once

#include <stdint.h>

namespace et {

// PyTorch's clamp: a NaN stays one.
template <class T>
inline T clamped(T value, T low, T high) {
  return value < low ? low : (value > high ? high : value);
}

// Rounds to the nearest integer, ties to even, for |v| < 2^22: the sum has no bits left for a fraction.
inline __attribute__((always_inline)) float nearest(float v) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return (v + kShift) - kShift;
}

inline bool is_nan(float value) { return value != value; }

inline bool is_nan(double value) { return value != value; }

template <class T>
inline bool is_nan(T) {
  return false;  // whole numbers
}

inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

inline int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

}  // namespace et
