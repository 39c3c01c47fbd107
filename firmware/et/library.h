// Functions of <math.h> that a C library gets wrong, over their whole range (tests/operators/test_library.py).
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

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

// An angle without whole turns: `rest` in [-pi/4, pi/4] behind so many quarters of a turn.
struct Angle {
  float rest;
  uint32_t quarters;
};

// For |v| from 128 on, where newlib's own reduction leaves 3e-8: cos(2^63) has 36 units in the last place too much.
// Payne and Hanek: of |v| * 2 / pi, |v| = m * 2^e, the bits of 2 / pi that give multiples of 4 are left out, and 96 of
// those behind them are enough.
inline Angle without_turns(float v) {
  // 33 zeros, then 2 / pi
  static const uint32_t kTwoByPi[8] = {0x00000000, 0x517CC1B7, 0x27220A94, 0xFE13ABE8,
                                       0xFA9A6EE0, 0x6DB14ACC, 0x9E21C820, 0xFF28B1D5};
  uint32_t bits = 0;
  memcpy(&bits, &v, sizeof(bits));
  const uint64_t m = (bits & 0x7FFFFFu) | 0x800000u;
  const uint32_t at = ((bits >> 23) & 0xFFu) - 150u + 31u;  // the first bit, of weight 2 with m
  const uint32_t* word = kTwoByPi + (at >> 5);
  const uint32_t left = at & 31u;
  const auto part = [&](uint32_t i) {
    return static_cast<uint32_t>(((uint64_t{word[i]} << 32 | word[i + 1]) << left) >> 32);
  };
  const uint64_t middle = m * part(1) + ((m * part(2)) >> 32);
  const uint64_t product =
      ((m * part(0) + (middle >> 32)) << 32) | (middle & 0xFFFFFFFFu);  // quarters: 2 bits, and 62 behind the point
  const bool is_negative = (product >> 61) & 1u;
  uint64_t fraction = product << 2;
  fraction = is_negative ? uint64_t{0} - fraction : fraction;
  float rest = 0.0f;
  if (fraction != 0) {
    const auto shift = static_cast<uint32_t>(__builtin_clzll(fraction));
    const uint64_t scaled = ((fraction << shift) >> 32) * 0xC90FDAA2u;  // pi / 2 * 2^31
    const uint32_t power = (127u - 31u - shift) << 23;
    float unit = 0.0f;
    memcpy(&unit, &power, sizeof(unit));
    rest = static_cast<float>(static_cast<uint32_t>(scaled >> 32)) * unit;
  }
  return {is_negative ? -rest : rest, static_cast<uint32_t>((product + (uint64_t{1} << 61)) >> 62)};
}

inline bool has_turns(float v) { return fabsf(v) >= 128.0f && fabsf(v) <= 3.4028235e38f; }

inline float sine(float v) {
  if (!has_turns(v)) return sinf(v);
  const Angle angle = without_turns(v);
  const float size = angle.quarters & 1u ? cosf(angle.rest) : sinf(angle.rest);
  return (angle.quarters >= 2u) != (v < 0.0f) ? -size : size;
}

inline float cosine(float v) {
  if (!has_turns(v)) return cosf(v);
  const Angle angle = without_turns(v);
  const float size = angle.quarters & 1u ? sinf(angle.rest) : cosf(angle.rest);
  return angle.quarters == 1u || angle.quarters == 2u ? -size : size;
}

inline float tangent(float v) {
  if (!has_turns(v)) return tanf(v);
  const Angle angle = without_turns(v);
  const float rest = tanf(angle.rest);
  const float size = angle.quarters & 1u ? -1.0f / rest : rest;
  return v < 0.0f ? -size : size;
}

}  // namespace et
