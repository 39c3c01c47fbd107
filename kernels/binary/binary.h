// Arithmetic on two tensors with broadcasting, or on a tensor and a number. out may be the memory of either
// operand of its size.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/arithmetic.h"
#include "et/library.h"
#include "et/strided.h"

namespace et {

// The clamp that was fused into this step, if any. G: clamps, low, high.
template <class G>
inline __attribute__((always_inline)) float epilogue(const G& g, float v) {
  return g.clamps ? clamped(v, g.low, g.high) : v;
}

// G: the nest of zip, and the epilogue.
template <class G, class F>
inline __attribute__((always_inline)) void zip_clamped(const G& g, float* out, const float* self, const float* other,
                                                       const F& f) {
  zip(g, out, self, other, [&](float a, float b) { return epilogue(g, f(a, b)); });
}

template <class G>
void add(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [](float a, float b) { return a + b; });
}

template <class G>
void sub(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [](float a, float b) { return a - b; });
}

// self + alpha * other
template <class G>
void add_scaled(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [&](float a, float b) { return a + g.alpha * b; });
}

template <class G>
void mul(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [](float a, float b) { return a * b; });
}

template <class G>
void div(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [](float a, float b) { return a / b; });
}

// NaN in either operand gives NaN.
template <class G>
void maximum(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [](float a, float b) { return a > b || is_nan(a) ? a : b; });
}

template <class G>
void minimum(const G& g, float* out, const float* self, const float* other) {
  zip_clamped(g, out, self, other, [](float a, float b) { return a < b || is_nan(a) ? a : b; });
}

// Integers of any width: results wrap round.
inline __attribute__((always_inline)) uint64_t bits(int64_t v) { return static_cast<uint64_t>(v); }

template <class G, class T>
void add(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return static_cast<T>(bits(a) + bits(b)); });
}

template <class G, class T>
void sub(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return static_cast<T>(bits(a) - bits(b)); });
}

template <class G, class T>
void add_scaled(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [&](T a, T b) { return static_cast<T>(bits(a) + bits(g.alpha) * bits(b)); });
}

template <class G, class T>
void mul(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return static_cast<T>(bits(a) * bits(b)); });
}

template <class G, class T>
void maximum(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return a > b ? a : b; });
}

template <class G, class T>
void minimum(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return a < b ? a : b; });
}

// Division rounded towards 0, and down.
template <class G>
void div_trunc(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return truncated(a / b); });
}

// As PyTorch does it: by the rest, because a / b may round up to the next whole number.
inline float floor_of_quotient(float a, float b) {
  if (b == 0.0f) return a / b;
  const float rest = fmodf(a, b);
  float quotient = (a - rest) / b;
  if (rest != 0.0f && (b < 0.0f) != (rest < 0.0f)) quotient -= 1.0f;
  if (quotient == 0.0f) return copysignf(0.0f, a / b);
  const float down = floorf(quotient);
  return quotient - down > 0.5f ? down + 1.0f : down;
}

template <class G>
void div_floor(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return floor_of_quotient(a, b); });
}

// Of whole numbers: by 0 it gives 0, and the language says nothing of the smallest by -1.
template <class T>
inline __attribute__((always_inline)) T quotient_of(T a, T b) {
  if (b == T{}) return T{};
  return b == static_cast<T>(-1) && static_cast<T>(-1) < T{} ? static_cast<T>(-bits(a)) : static_cast<T>(a / b);
}

template <class G, class T>
void div_trunc(const G& g, T* out, const T* self, const T* other) {
  zip(g, out, self, other, [](T a, T b) { return quotient_of(a, b); });
}

template <class G, class T>
void div_floor(const G& g, T* out, const T* self, const T* other) {
  const auto down = [](T a, T b) {
    const T quotient = quotient_of(a, b);
    const T rest = static_cast<T>(bits(a) - bits(quotient) * bits(b));
    const bool up = b != T{} && rest != T{} && (rest > T{}) != (b > T{});
    return static_cast<T>(quotient - (up ? 1 : 0));
  };
  zip(g, out, self, other, down);
}

template <class G>
void add_number(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float a) { return epilogue(g, a + g.number); });
}

template <class G>
void mul_number(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float a) { return epilogue(g, a * g.number); });
}

template <class G>
void div_number(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float a) { return epilogue(g, a / g.number); });
}

}  // namespace et
