// Functions of <math.h> that a C library gets wrong, over their whole range (tests/operators/test_library.py).
#pragma once

#include <math.h>
#include <stdint.h>

namespace et {

// Towards 0. picolibc's truncf on RV32 gives 2^32 for all that is larger.
inline float truncated(float v) {
  // from 2^23 on there are whole numbers only; NaN stays itself
  return fabsf(v) < 8388608.0f ? copysignf(static_cast<float>(static_cast<int32_t>(v)), v) : v;
}

// newlib's powf gives 1 for -1 to the power NaN.
inline float power_of(float base, float exponent) {
  return exponent != exponent && base != 1.0f ? exponent : powf(base, exponent);
}

}  // namespace et
