// Reductions with an own start, step and end: variance, norms, products, logic, and the largest with its index.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides of the dimensions that stay; reduced_sizes, reduced_strides of those that go.
template <class G, class Out, class In, class State, class Step, class Finish>
inline __attribute__((always_inline)) void reduce_from(const G& g, Out* out, const In* self, State start,
                                                       const Step& step, const Finish& finish) {
  const auto element = [&](int32_t to, int32_t from) {
    State state = start;
    each<extent_of<decltype(G::reduced_sizes)>>(
        g.reduced_sizes, [&](int32_t at) { state = step(state, self[from + at]); }, Cursor{0, g.reduced_strides});
    out[to] = finish(state);
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, element, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

template <class G>
void product(const G& g, float* out, const float* self) {
  reduce_from(g, out, self, 1.0f, [](float s, float v) { return s * v; }, [](float s) { return s; });
}

template <class G>
void norm_1(const G& g, float* out, const float* self) {
  reduce_from(g, out, self, 0.0f, [](float s, float v) { return s + fabsf(v); }, [](float s) { return s; });
}

template <class G>
void norm_2(const G& g, float* out, const float* self) {
  reduce_from(g, out, self, 0.0f, [](float s, float v) { return s + v * v; }, [](float s) { return sqrtf(s); });
}

// NaN wins.
template <class G>
void norm_inf(const G& g, float* out, const float* self) {
  const auto step = [](float s, float v) {
    const float size = fabsf(v);
    return size > s || size != size ? size : s;
  };
  reduce_from(g, out, self, 0.0f, step, [](float s) { return s; });
}

template <class G, class T>
void any(const G& g, bool* out, const T* self) {
  reduce_from(g, out, self, false, [](bool s, T v) { return s || v != T{}; }, [](bool s) { return s; });
}

template <class G, class T>
void all(const G& g, bool* out, const T* self) {
  reduce_from(g, out, self, true, [](bool s, T v) { return s && v != T{}; }, [](bool s) { return s; });
}

// G: also scale, 1 / the number of elements, and divisor, 1 / that number less the correction.
template <class G>
void variance(const G& g, float* out, const float* self) {
  constexpr int32_t kDims = extent_of<decltype(G::reduced_sizes)>;
  const auto element = [&](int32_t to, int32_t from) {
    const float* const x = self + from;
    float total = 0.0f;
    each<kDims>(g.reduced_sizes, [&](int32_t at) { total = total + x[at]; }, Cursor{0, g.reduced_strides});
    const float middle = total * g.scale;
    float squares = 0.0f;
    const auto deviation = [&](int32_t at) {
      const float d = x[at] - middle;
      squares = squares + d * d;
    };
    each<kDims>(g.reduced_sizes, deviation, Cursor{0, g.reduced_strides});
    out[to] = squares * g.divisor;
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, element, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

// The first of the largest (or, where `smallest`, of the smallest), or the first NaN, and where it stands along the
// reduced dimension. indices may be null. G: also index_strides.
template <class G, class T>
void extreme(const G& g, T* out, int64_t* indices, const T* self) {
  const auto element = [&](int32_t to, int32_t from, int32_t index) {
    T best = self[from];
    int32_t found = 0;
    int32_t place = 0;
    const auto candidate = [&](int32_t at) {
      const T v = self[from + at];
      if ((g.smallest ? v < best : v > best) || (is_nan(v) && !is_nan(best))) {
        best = v;
        found = place;
      }
      ++place;
    };
    each<extent_of<decltype(G::reduced_sizes)>>(g.reduced_sizes, candidate, Cursor{0, g.reduced_strides});
    out[to] = best;
    if (indices != nullptr) {
      indices[index] = found;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, element, Cursor{0, g.out_strides}, Cursor{0, g.self_strides},
                                      Cursor{0, g.index_strides});
}

}  // namespace et
