// Scalar arithmetic that kernels share.
#pragma once

#include <stdint.h>

namespace et {

// PyTorch's clamp: a NaN stays one.
template <class T>
inline T clamped(T value, T low, T high) {
  return value < low ? low : (value > high ? high : value);
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
