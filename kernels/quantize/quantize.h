// Between float and int8: quantised values are real / scale + zero_point, rounded to the nearest (ties to even) and
// saturated.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// low, high: the bounds minus zero_point. A NaN becomes 0, as PyTorch stores it.
template <class Out>
inline __attribute__((always_inline)) Out quantized(float real, float inverse, int32_t zero_point, int32_t low,
                                                    int32_t high) {
  const float v = real * inverse;
  const float inside = clamped(v, static_cast<float>(low), static_cast<float>(high));
  return static_cast<Out>(v != v ? 0 : static_cast<int32_t>(nearest(inside)) + zero_point);
}

// G: sizes, out_strides, self_strides; inverse (1 / scale), zero_point, low, high (the bounds minus zero_point).
template <class G, class Out>
void quantize(const G& g, Out* out, const float* self) {
  map(g, out, self, [&](float real) { return quantized<Out>(real, g.inverse, g.zero_point, g.low, g.high); });
}

// G: sizes, out_strides, self_strides; scale, zero_point.
template <class G, class In>
void dequantize(const G& g, float* out, const In* self) {
  map(g, out, self, [&](In stored) { return static_cast<float>(stored - g.zero_point) * g.scale; });
}

}  // namespace et
