// Functions of one tensor, element by element, most of them of floats. out may be the memory of self.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/exp.h"
#include "et/strided.h"

namespace et {

template <class G>
void neg(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return -v; });
}

template <class G>
void abs(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return fabsf(v); });
}

// Whole numbers wrap round.
template <class T>
inline T negative(T v) {
  return static_cast<T>(-static_cast<uint64_t>(v));
}

template <class G, class T>
void neg(const G& g, T* out, const T* self) {
  map(g, out, self, [](T v) { return negative(v); });
}

template <class G, class T>
void abs(const G& g, T* out, const T* self) {
  map(g, out, self, [](T v) { return v > T{} ? v : negative(v); });
}

template <class G>
void exp(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return exponential(v); });
}

template <class G>
void log(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return logf(v); });
}

template <class G>
void sqrt(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return sqrtf(v); });
}

template <class G>
void rsqrt(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return 1.0f / sqrtf(v); });
}

template <class G>
void reciprocal(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return 1.0f / v; });
}

}  // namespace et
