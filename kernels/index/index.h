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

// Where up to four indices lead: `offset` moved on along the dimension of each; -1 where one is out of range. G:
// extents and steps of the dimensions, wraps.
template <class G, class... Index>
struct Place {
  static constexpr int32_t kCount = sizeof...(Index);
  static constexpr bool kWide[] = {sizeof(Index) == sizeof(int64_t)...};
  static_assert(kCount <= 4, "each walks along four indices");
  const G& g;
  const void* indices[kCount];

  // Index `k` walks along its own strides; those beyond the last are never read.
  Cursor cursor(int32_t k) const {
    return Cursor{0, g.index_strides + (k < kCount ? k : 0) * extent_of<decltype(G::sizes)>};
  }

  int32_t operator()(int32_t offset, int32_t first, int32_t second, int32_t third, int32_t fourth) const {
    const int32_t at[] = {first, second, third, fourth};
    for (int32_t k = 0; k < kCount; ++k) {
      const int64_t index =
          kWide[k] ? static_cast<const int64_t*>(indices[k])[at[k]] : static_cast<const int32_t*>(indices[k])[at[k]];
      const int32_t found = position(index, g.extents[k], g.wraps);
      if (found < 0) return -1;
      offset += found * g.steps[k];
    }
    return offset;
  }
};

// Calls body(place, at) for all that the indices name: its offset (-1 where one is out of range) in the tensor that
// they belong to, `strides` along the other dimensions, and the offset in the other tensor, `other_strides`.
template <class G, class Body, class... Index>
inline __attribute__((always_inline)) void each_place(const G& g, const int32_t* strides, const int32_t* other_strides,
                                                      const Body& body, const Index*... index) {
  const Place<G, Index...> place{g, {index...}};
  const auto one = [&](int32_t at, int32_t offset, int32_t first, int32_t second, int32_t third, int32_t fourth) {
    body(place(offset, first, second, third, fourth), at);
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, one, Cursor{0, other_strides}, Cursor{0, strides}, place.cursor(0),
                                      place.cursor(1), place.cursor(2), place.cursor(3));
}

// Several indices for each element. G: sizes, out_strides, self_strides (0 where indices say), and those of Place.
template <class G, class T, class... Index>
void pick(const G& g, T* out, const T* self, const Index*... index) {
  const auto one = [&](int32_t from, int32_t to) { out[to] = from < 0 ? no_element<T>() : self[from]; };
  each_place(g, g.self_strides, g.out_strides, one, index...);
}

}  // namespace et
