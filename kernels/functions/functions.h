// Further functions of float tensors, element by element, by the C library. out may be the memory of an operand.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/library.h"
#include "et/strided.h"

namespace et {

template <class G>
void floor(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return floorf(v); });
}

template <class G>
void ceil(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return ceilf(v); });
}

template <class G>
void trunc(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return truncated(v); });
}

// Halves go to the even neighbour.
template <class G>
void round(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return rintf(v); });
}

// 0 for both zeros and NaN.
template <class G>
void sign(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return static_cast<float>(v > 0.0f) - static_cast<float>(v < 0.0f); });
}

template <class G>
void sin(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return sine(v); });
}

template <class G>
void cos(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return cosine(v); });
}

template <class G>
void tan(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return tangent(v); });
}

template <class G>
void asin(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return asinf(v); });
}

template <class G>
void acos(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return acosf(v); });
}

template <class G>
void atan(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return atanf(v); });
}

template <class G>
void sinh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return sinhf(v); });
}

template <class G>
void cosh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return coshf(v); });
}

template <class G>
void asinh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return asinhf(v); });
}

template <class G>
void acosh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return acoshf(v); });
}

template <class G>
void atanh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return atanhf(v); });
}

template <class G>
void erf(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return erff(v); });
}

template <class G>
void erfc(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return erfcf(v); });
}

template <class G>
void expm1(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return expm1f(v); });
}

template <class G>
void log1p(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return log1pf(v); });
}

template <class G>
void log2(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return log2f(v); });
}

template <class G>
void log10(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return log10f(v); });
}

// G: also number. The usual exponents of networks are products and roots, as in PyTorch.
template <class G>
void power(const G& g, float* out, const float* self) {
  const float exponent = g.number;
  if (exponent == 2.0f) {
    map(g, out, self, [](float v) { return v * v; });
  } else if (exponent == 3.0f) {
    map(g, out, self, [](float v) { return v * v * v; });
  } else if (exponent == 0.5f) {
    map(g, out, self, [](float v) { return sqrtf(v); });
  } else if (exponent == -0.5f) {
    map(g, out, self, [](float v) { return 1.0f / sqrtf(v); });
  } else if (exponent == -1.0f) {
    map(g, out, self, [](float v) { return 1.0f / v; });
  } else if (exponent == -2.0f) {
    map(g, out, self, [](float v) { return 1.0f / (v * v); });
  } else {
    map(g, out, self, [&](float v) { return power_of(v, exponent); });
  }
}

// Of whole numbers, which wrap round.
template <class G, class T>
void whole_power(const G& g, T* out, const T* self) {
  const auto power = [&](T v) {
    uint64_t result = 1;
    for (int32_t i = 0; i < g.number; ++i) {
      result *= static_cast<uint64_t>(v);
    }
    return static_cast<T>(result);
  };
  map(g, out, self, power);
}

// Two tensors.
template <class G>
void power(const G& g, float* out, const float* self, const float* exponent) {
  zip(g, out, self, exponent, [](float a, float b) { return power_of(a, b); });
}

template <class G>
void power_of_number(const G& g, float* out, const float* exponent) {
  map(g, out, exponent, [&](float v) { return power_of(g.number, v); });
}

template <class G>
void atan2(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return atan2f(a, b); });
}

// The rest with the sign of the divisor.
inline float rest_of(float v, float divisor) {
  const float rest = fmodf(v, divisor);
  return rest != 0.0f && (rest < 0.0f) != (divisor < 0.0f) ? rest + divisor : rest;
}

template <class G>
void fmod(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return fmodf(a, b); });
}

template <class G>
void remainder(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return rest_of(a, b); });
}

// Of whole numbers; by 0 it gives 0, and of the smallest by -1 the language says nothing.
template <class T>
inline __attribute__((always_inline)) T whole_rest(T v, T divisor) {
  return divisor == 0 || divisor == -1 ? T{} : static_cast<T>(v % divisor);
}

template <class G, class T>
void fmod(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return whole_rest(a, b); });
}

template <class G, class T>
void remainder(const G& g, T* out, const T* self, const T* other) {
  const auto rest = [](T a, T b) {
    const T left = whole_rest(a, b);
    return static_cast<T>(left != 0 && (left < 0) != (b < 0) ? left + b : left);
  };
  zip(g, out, self, other, rest);
}

template <class G>
void hypot(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return hypotf(a, b); });
}

template <class G>
void copysign(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return copysignf(a, b); });
}

// NaN only where both are.
template <class G>
void fmax(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return fmaxf(a, b); });
}

template <class G>
void fmin(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return fminf(a, b); });
}

// The rest has the sign of self.
template <class G>
void fmod_number(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float v) { return fmodf(v, g.number); });
}

// Of the smallest whole number and -1 the language says nothing.
template <class T>
inline __attribute__((always_inline)) int64_t rest_of(T v, int32_t number) {
  return number == -1 ? 0 : v % number;
}

template <class G, class T>
void fmod_number(const G& g, T* out, const T* self) {
  map(g, out, self, [&](T v) { return static_cast<T>(rest_of(v, g.number)); });
}

template <class G, class T>
void remainder_number(const G& g, T* out, const T* self) {
  map(g, out, self, [&](T v) {
    const T rest = static_cast<T>(rest_of(v, g.number));
    return static_cast<T>(rest != 0 && (rest < 0) != (g.number < 0) ? rest + g.number : rest);
  });
}

// The rest has the sign of the number.
template <class G>
void remainder_number(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float v) { return rest_of(v, g.number); });
}

}  // namespace et
