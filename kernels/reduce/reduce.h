// Reductions over any set of dimensions.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides of the dimensions that stay; reduced_sizes, reduced_strides of those that go.
// A sum starts at 0; `first` true makes the first element the start, for the largest of nothing is not defined.
template <class G, class Out, class T, class Step, class Finish>
inline __attribute__((always_inline)) void fold(const G& g, Out* out, const T* self, bool first, const Step& step,
                                                const Finish& finish) {
  constexpr int32_t kInner = extent_of<decltype(G::reduced_sizes)> - 1;
  const int32_t n = g.reduced_sizes[kInner];
  const int32_t stride = g.reduced_strides[kInner];
  const auto element = [&](int32_t to, int32_t from) {
    Out result = first ? self[from] : Out{};
    const auto row = [&](int32_t at) {
      const T* const x = self + from + at;
      unrolled(n, [&](int32_t i) { result = step(result, x[i * stride]); });
    };
    each<kInner>(g.reduced_sizes, row, Cursor{0, g.reduced_strides});
    out[to] = finish(result);
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, element, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

template <class G>
void sum(const G& g, float* out, const float* self) {
  fold(g, out, self, false, [](float total, float v) { return total + v; }, [](float total) { return total; });
}

// Whole numbers: the total wraps round.
template <class G, class T>
void sum(const G& g, int64_t* out, const T* self) {
  fold(
      g, out, self, false,
      [](int64_t total, T v) { return static_cast<int64_t>(static_cast<uint64_t>(total) + static_cast<uint64_t>(v)); },
      [](int64_t total) { return total; });
}

// G: also scale, 1 / the number of elements
template <class G>
void mean(const G& g, float* out, const float* self) {
  fold(
      g, out, self, false, [](float total, float v) { return total + v; },
      [&](float total) { return total * g.scale; });
}

// NaN wins.
template <class G, class T>
void amax(const G& g, T* out, const T* self) {
  fold(g, out, self, true, [](T top, T v) { return v > top || is_nan(v) ? v : top; }, [](T top) { return top; });
}

template <class G, class T>
void amin(const G& g, T* out, const T* self) {
  fold(g, out, self, true, [](T low, T v) { return v < low || is_nan(v) ? v : low; }, [](T low) { return low; });
}

}  // namespace et
