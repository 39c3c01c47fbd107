// Functions of one float tensor, element by element. out may be the memory of self.
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
