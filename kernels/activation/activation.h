// Activations of one float tensor. out may be the memory of self.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "et/arithmetic.h"
#include "et/exp.h"
#include "et/strided.h"

namespace et {

template <class G>
void clamp(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float v) { return clamped(v, g.low, g.high); });
}

// On the bits, since comparing floats costs more on every core: those of negative numbers, from the smallest to -inf,
// are neighbours; -0 lies before and NaN after them.
template <class G>
void relu(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    bits = bits - 0x80000001U <= 0x7F7FFFFFU ? 0 : bits;
    memcpy(&v, &bits, sizeof(bits));
    return v;
  });
}

template <class G>
void leaky_relu(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float v) { return v > 0.0f ? v : v * g.negative_slope; });
}

template <class G>
void elu(const G& g, float* out, const float* self) {
  map(g, out, self, [&](float v) { return v > 0.0f ? v * g.positive : g.negative * expm1f(v * g.input_scale); });
}

template <class G>
void sigmoid(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return 1.0f / (1.0f + exponential(-v)); });
}

template <class G>
void tanh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return hyperbolic_tangent(v); });
}

// x * P(X <= x) for a standard normal X; erfc does not cancel where P is small
template <class G>
void gelu(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return 0.5f * v * erfcf(v * -0.707106781f); });
}

// x (1 + tanh(z)) / 2 = x / (1 + e^-2z)
template <class G>
void gelu_tanh(const G& g, float* out, const float* self) {
  map(g, out, self, [](float v) { return v / (1.0f + exponential(-1.595769122f * (v + 0.044715f * v * v * v))); });
}

}  // namespace et
