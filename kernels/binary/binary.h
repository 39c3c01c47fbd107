// Arithmetic on two float tensors with broadcasting, or on a tensor and a number. out may be the memory of either
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

// G: sizes, out_strides, self_strides, other_strides (0 where an operand repeats), and the epilogue.
template <class G, class F>
inline __attribute__((always_inline)) void zip(const G& g, float* out, const float* self, const float* other,
                                               const F& f) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const int32_t other_step = g.other_strides[kInner];
  const auto row = [&](int32_t to, int32_t left, int32_t right) {
    float* const o = out + to;
    const float* const a = self + left;
    const float* const b = other + right;
    if (out_step == 1 && self_step == 1 && other_step == 1) {
      unrolled(n, [&](int32_t i) { o[i] = epilogue(g, f(a[i], b[i])); });
    } else if (out_step == 1 && self_step == 1 && other_step == 0) {
      const float v = b[0];  // the compiler cannot know that out is not there
      unrolled(n, [&](int32_t i) { o[i] = epilogue(g, f(a[i], v)); });
    } else {
      for (int32_t i = 0; i < n; ++i) {
        o[i * out_step] = epilogue(g, f(a[i * self_step], b[i * other_step]));
      }
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.other_strides});
}

template <class G>
void add(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return a + b; });
}

template <class G>
void sub(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return a - b; });
}

// self + alpha * other
template <class G>
void add_scaled(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [&](float a, float b) { return a + g.alpha * b; });
}

template <class G>
void mul(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return a * b; });
}

template <class G>
void div(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return a / b; });
}

// NaN in either operand gives NaN.
template <class G>
void maximum(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return a > b || a != a ? a : b; });
}

template <class G>
void minimum(const G& g, float* out, const float* self, const float* other) {
  zip(g, out, self, other, [](float a, float b) { return a < b || a != a ? a : b; });
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
