// Loop nests over tensors whose elements lie in any order. The host (etexport/kernel/strided.py) has merged and ordered
// the dimensions: the last is the innermost of the output, and a tensor in one piece has a single dimension larger
// than 1.
#pragma once

#include <stdint.h>

#include "et/move.h"

namespace et {

// Offset in elements of one operand, and its strides for the dimensions that are still to come.
struct Cursor {
  int32_t at;
  const int32_t* strides;
};

// Calls body(offset, ...) with the offset of each operand, for every index of the first kDims dimensions of `sizes`.
template <int32_t kDims, class Body, class... Cursors>
inline __attribute__((always_inline)) void each(const int32_t* sizes, const Body& body, Cursors... cursors) {
  if constexpr (kDims == 0) {
    body(cursors.at...);
  } else {
    for (int32_t i = 0; i < sizes[0]; ++i) {
      each<kDims - 1>(sizes + 1, body, Cursor{cursors.at + i * cursors.strides[0], cursors.strides + 1}...);
    }
  }
}

template <class A, class B>
constexpr bool same_type = false;
template <class A>
constexpr bool same_type<A, A> = true;

// Number of dimensions of a geometry's array: extent_of<decltype(G::sizes)>.
template <class Array>
constexpr int32_t extent_of = static_cast<int32_t>(sizeof(Array) / sizeof(int32_t));

// body(i) for 0 <= i < n, four to a round: a float loop of load, add, store spends as much on counting as on adding.
template <class Body>
inline __attribute__((always_inline)) void unrolled(int32_t n, const Body& body) {
#pragma GCC unroll 4
  for (int32_t i = 0; i < n; ++i) {
    body(i);
  }
}

// out[...] = f(self[...]) over the nest of G: sizes, out_strides, self_strides.
template <class G, class Out, class In, class F>
inline __attribute__((always_inline)) void map(const G& g, Out* out, const In* self, const F& f) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const auto row = [&](int32_t to, int32_t from) {
    Out* const o = out + to;
    const In* const a = self + from;
    if (out_step == 1 && self_step == 1) {
      unrolled(n, [&](int32_t i) { o[i] = f(a[i]); });
    } else {
      for (int32_t i = 0; i < n; ++i) {
        o[i * out_step] = f(a[i * self_step]);
      }
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

// out[...] = self[...], converted where the types differ.
template <class G, class Out, class In>
inline __attribute__((always_inline)) void move(const G& g, Out* out, const In* self) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const auto row = [&](int32_t to, int32_t from) {
    if constexpr (same_type<Out, In>) {
      if (out_step == 1 && self_step == 1) {
        return move_row(out + to, self + from, n);
      }
    }
    Out* o = out + to;
    const In* a = self + from;
    unrolled(n, [&](int32_t) {
      *o = static_cast<Out>(*a);
      o += out_step;
      a += self_step;
    });
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

// out[...] = f(self[...], other[...]) over the nest of G: sizes, out_strides, self_strides, other_strides (0 where an
// operand repeats). out may be the memory of either operand of its size.
template <class G, class T, class F>
inline __attribute__((always_inline)) void zip(const G& g, T* out, const T* self, const T* other, const F& f) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const int32_t other_step = g.other_strides[kInner];
  const auto row = [&](int32_t to, int32_t left, int32_t right) {
    T* const o = out + to;
    const T* const a = self + left;
    const T* const b = other + right;
    if (out_step == 1 && self_step == 1 && other_step == 1) {
      unrolled(n, [&](int32_t i) { o[i] = f(a[i], b[i]); });
    } else if (out_step == 1 && self_step == 1 && other_step == 0) {
      const T v = b[0];  // the compiler cannot know that out is not there
      unrolled(n, [&](int32_t i) { o[i] = f(a[i], v); });
    } else {
      for (int32_t i = 0; i < n; ++i) {
        o[i * out_step] = f(a[i * self_step], b[i * other_step]);
      }
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.other_strides});
}

}  // namespace et
