// Elements picked by tensors of indices. An index out of range reads nothing: a float becomes NaN, an integer 0.
// PyTorch raises an error there; a kernel has nobody to tell.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

template <class T>
inline T no_element() {
  return T{};
}

template <>
inline float no_element<float>() {
  return __builtin_nanf("");
}

template <>
inline double no_element<double>() {
  return __builtin_nan("");
}

// -1 where the index is out of range. Negative ones count from the end where the operator says so.
template <class Index>
inline int32_t position(Index index, int32_t extent, bool wraps) {
  const int64_t wide = index;
  const int64_t at = wraps && wide < 0 ? wide + extent : wide;
  return at < 0 || at >= extent ? -1 : static_cast<int32_t>(at);
}

// For each index the elements of self at that place along one dimension. G: index_sizes, index_strides,
// index_out_strides over the indices; sizes, out_strides, self_strides over the other dimensions; extent and step of
// the dimension; wraps.
template <class G, class T, class Index>
void take(const G& g, T* out, const T* self, const Index* index) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const auto one = [&](int32_t at, int32_t place) {
    const int32_t found = position(index[at], g.extent, g.wraps);
    const T* const from = self + (found < 0 ? 0 : found) * g.step;
    const auto row = [&](int32_t to, int32_t left) {
      T* const o = out + place + to;
      const T* const a = from + left;
      if (found < 0) {
        unrolled(n, [&](int32_t i) { o[i * out_step] = no_element<T>(); });
      } else {
        unrolled(n, [&](int32_t i) { o[i * out_step] = a[i * self_step]; });
      }
    };
    each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
  };
  each<extent_of<decltype(G::index_sizes)>>(g.index_sizes, one, Cursor{0, g.index_strides},
                                            Cursor{0, g.index_out_strides});
}

// out[...] = self[..., index[...], ...]. G: sizes, out_strides, self_strides (0 along the dimension), index_strides;
// extent and step of the dimension.
template <class G, class T, class Index>
void gather(const G& g, T* out, const T* self, const Index* index) {
  const auto one = [&](int32_t to, int32_t from, int32_t at) {
    const int32_t found = position(index[at], g.extent, false);
    out[to] = found < 0 ? no_element<T>() : self[from + found * g.step];
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, one, Cursor{0, g.out_strides}, Cursor{0, g.self_strides},
                                      Cursor{0, g.index_strides});
}

// Two indices for each element. G: sizes, out_strides, self_strides (0 where indices say), first_strides,
// second_strides; extents and steps of the two dimensions.
template <class G, class T, class First, class Second>
void pick(const G& g, T* out, const T* self, const First* first, const Second* second) {
  const auto one = [&](int32_t to, int32_t from, int32_t left, int32_t right) {
    const int32_t row = position(first[left], g.extents[0], true);
    const int32_t column = position(second[right], g.extents[1], true);
    const bool inside = row >= 0 && column >= 0;
    out[to] = inside ? self[from + row * g.steps[0] + column * g.steps[1]] : no_element<T>();
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, one, Cursor{0, g.out_strides}, Cursor{0, g.self_strides},
                                      Cursor{0, g.first_strides}, Cursor{0, g.second_strides});
}

}  // namespace et
