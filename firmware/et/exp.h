// e^x and tanh x in float32, the same on every core, e^x within 1.4 half units in the last place, tanh x within 2.4. A
// C library's expf is larger, and on cores without double precision several times slower where it computes in double.
#pragma once

#include <stdint.h>
#include <string.h>

namespace et {

// e^x. Results below the smallest normal number are 0; +inf above 88.72; NaN gives NaN.
inline float exponential(float x) {
  if (!(x > -87.3f)) {
    return x != x ? x : 0.0f;
  }
  if (x > 88.72283f) {
    return __builtin_inff();
  }
  // x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low
  // bits
  const float shifted = x * 1.442695041f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  float r = x - n * 0.693359375f;  // ln 2 in two parts; the first has 9 bits, so that its product with n is exact
  r = r + n * 2.12194440e-4f;
  // e^r = 1 + r + r^2 p(r), p fitted for the least relative error, 3.4e-9
  float p = 0.0013951694f;
  p = p * r + 0.0083696f;
  p = p * r + 0.041666187f;
  p = p * r + 0.16666513f;
  p = p * r + 0.5f;
  float result = (p * r) * r + r + 1.0f;
  uint32_t bits;
  uint32_t exponent;
  memcpy(&bits, &result, sizeof(bits));
  memcpy(&exponent, &shifted, sizeof(exponent));
  bits += exponent << 23;  // 1.5 * 2^23 has zeros in the 9 bits that matter, so this adds n to the exponent
  memcpy(&result, &bits, sizeof(result));
  return result;
}

// Odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
inline float hyperbolic_tangent(float x) {
  const float size = x < 0.0f ? -x : x;
  if (size < 0.625f) {
    const float u = x * x;
    // (tanh(x) / x - 1) / x^2, relative error 4e-9
    float p = -0.00571703f;
    p = p * u + 0.02065058f;
    p = p * u - 0.05374349f;
    p = p * u + 0.13331491f;
    p = p * u - 0.33333284f;
    return x + x * u * p;
  }
  const float t = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
  return x < 0.0f ? -t : t;
}

}  // namespace et
