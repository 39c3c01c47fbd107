// Arithmetic on two tensors with broadcasting, or on a tensor and a number. out may be the memory of either
// operand of its size.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
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
