// Softmax and its logarithm along one dimension. out may be the memory of self.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/exp.h"
#include "et/strided.h"

namespace et {

// The largest of n elements; NaN may be passed over, for it makes the sum of the exponentials NaN anyway.
inline float largest(int32_t n, const float* x, int32_t step) {
  float top = x[0];
  for (int32_t i = 1; i < n; ++i) {
    const float v = x[i * step];
    top = v > top ? v : top;
  }
  return top;
}

// G: sizes, out_strides, self_strides of all other dimensions; length, out_step, self_step along the one that is
// normalised.
template <class G>
void softmax(const G& g, float* out, const float* self) {
  const int32_t n = g.length;
  const int32_t out_step = g.out_step;
  const int32_t self_step = g.self_step;
  const auto line = [&](int32_t to, int32_t from) {
    float* const y = out + to;
    const float* const x = self + from;
    const float top = largest(n, x, self_step);
    float sum = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
      const float e = exponential(x[i * self_step] - top);
      y[i * out_step] = e;
      sum += e;
    }
    const float scale = 1.0f / sum;
    for (int32_t i = 0; i < n; ++i) {
      y[i * out_step] *= scale;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

template <class G>
void log_softmax(const G& g, float* out, const float* self) {
  const int32_t n = g.length;
  const int32_t out_step = g.out_step;
  const int32_t self_step = g.self_step;
  const auto line = [&](int32_t to, int32_t from) {
    float* const y = out + to;
    const float* const x = self + from;
    const float top = largest(n, x, self_step);
    float sum = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
      sum += exponential(x[i * self_step] - top);
    }
    const float shift = logf(sum);
    for (int32_t i = 0; i < n; ++i) {
      y[i * out_step] = (x[i * self_step] - top) - shift;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
