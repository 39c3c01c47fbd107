// Elements written to the places that tensors of indices name. An index out of range writes nothing. out may be the
// memory of self.
#pragma once

#include <stdint.h>

#include "et/strided.h"
#include "index/index.h"

namespace et {

// out = self. G: whole_sizes, whole_out_strides, whole_self_strides.
template <class G, class T>
inline void copy_whole(const G& g, T* out, const T* self) {
  if (out != self) {
    each<extent_of<decltype(G::whole_sizes)>>(
        g.whole_sizes, [&](int32_t to, int32_t from) { out[to] = self[from]; }, Cursor{0, g.whole_out_strides},
        Cursor{0, g.whole_self_strides});
  }
}

// out = self, then out[place] = f(out[place], src[...]) for every place. G: those of copy_whole; sizes, out_strides (0
// where indices say), src_strides, and those of Place.
template <class G, class T, class F, class... Index>
inline __attribute__((always_inline)) void put_with(const G& g, T* out, const T* src, const F& f,
                                                    const Index*... index) {
  const auto one = [&](int32_t to, int32_t from) {
    if (to >= 0) out[to] = f(out[to], src[from]);
  };
  each_place(g, g.out_strides, g.src_strides, one, index...);
}

// Where several write to one place, the last in logical order of the indices stays.
template <class G, class T, class... Index>
void put(const G& g, T* out, const T* self, const T* src, const Index*... index) {
  copy_whole(g, out, self);
  put_with(g, out, src, [](T, T b) { return b; }, index...);
}

// Integers wrap round.
template <class T>
inline T sum_of(T a, T b) {
  return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

inline float sum_of(float a, float b) { return a + b; }

inline double sum_of(double a, double b) { return a + b; }

template <class T>
inline T product_of(T a, T b) {
  return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

inline float product_of(float a, float b) { return a * b; }

inline double product_of(double a, double b) { return a * b; }

// A NaN stays one.
template <class T>
inline bool stays(T) {
  return false;
}

inline bool stays(float a) { return a != a; }

inline bool stays(double a) { return a != a; }

// G: also fresh: what self holds at the places does not take part.
template <class G, class T, class... Index>
void put_sum(const G& g, T* out, const T* self, const T* src, const Index*... index) {
  copy_whole(g, out, self);
  if (g.fresh) put_with(g, out, src, [](T, T) { return T{}; }, index...);
  put_with(g, out, src, [](T a, T b) { return sum_of(a, b); }, index...);
}

template <class G, class T, class... Index>
void put_product(const G& g, T* out, const T* self, const T* src, const Index*... index) {
  copy_whole(g, out, self);
  if (g.fresh) put_with(g, out, src, [](T, T) { return static_cast<T>(1); }, index...);
  put_with(g, out, src, [](T a, T b) { return product_of(a, b); }, index...);
}

template <class G, class T, class... Index>
void put_largest(const G& g, T* out, const T* self, const T* src, const Index*... index) {
  copy_whole(g, out, self);
  if (g.fresh) put_with(g, out, src, [](T, T b) { return b; }, index...);
  put_with(g, out, src, [](T a, T b) { return a > b || stays(a) ? a : b; }, index...);
}

template <class G, class T, class... Index>
void put_least(const G& g, T* out, const T* self, const T* src, const Index*... index) {
  copy_whole(g, out, self);
  if (g.fresh) put_with(g, out, src, [](T, T b) { return b; }, index...);
  put_with(g, out, src, [](T a, T b) { return a < b || stays(a) ? a : b; }, index...);
}

// `counts`: one a place of out. G: also elements of out.
template <class G, class... Index>
void put_mean(const G& g, float* out, int32_t* counts, const float* self, const float* src, const Index*... index) {
  for (int32_t i = 0; i < g.elements; ++i) {
    counts[i] = g.fresh ? 0 : 1;
  }
  put_sum(g, out, self, src, index...);
  const auto count = [&](int32_t to, int32_t) {
    if (to >= 0) ++counts[to];
  };
  each_place(g, g.out_strides, g.src_strides, count, index...);
  for (int32_t i = 0; i < g.elements; ++i) {
    if (counts[i] > 1) out[i] /= static_cast<float>(counts[i]);
  }
}

// The elements of src, one after the other, where the mask is true, all in logical order. G: sizes, out_strides,
// self_strides, mask_strides; count: how many elements src has.
template <class G, class T>
void put_masked(const G& g, T* out, const T* self, const bool* mask, const T* src) {
  int32_t next = 0;
  const auto one = [&](int32_t to, int32_t from, int32_t at) {
    const bool taken = mask[at] && next < g.count;
    out[to] = taken ? src[next] : self[from];
    next += taken ? 1 : 0;
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, one, Cursor{0, g.out_strides}, Cursor{0, g.self_strides},
                                      Cursor{0, g.mask_strides});
}

}  // namespace et
