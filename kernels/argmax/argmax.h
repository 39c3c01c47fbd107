// Index of the largest or smallest element: the first of equal ones, and of the first NaN if there is one.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides of the dimensions that stay; searched_sizes, searched_strides of those that are
// searched, in logical order, for that is how the index counts.
template <class G, class T, class Before>
inline __attribute__((always_inline)) void search(const G& g, int64_t* out, const T* self, const Before& before) {
  constexpr int32_t kInner = extent_of<decltype(G::searched_sizes)> - 1;
  const int32_t n = g.searched_sizes[kInner];
  const int32_t step = g.searched_strides[kInner];
  const auto element = [&](int32_t to, int32_t from) {
    T best = self[from];
    int32_t found = 0;
    int32_t index = 0;
    const auto row = [&](int32_t at) {
      const T* x = self + from + at;
      unrolled(n, [&](int32_t) {
        const T v = *x;
        x += step;
        // once best is NaN nothing comes before it; few are better than all before them
        if (__builtin_expect(before(v, best) || (is_nan(v) && !is_nan(best)), 0)) {
          best = v;
          found = index;
        }
        ++index;
      });
    };
    each<kInner>(g.searched_sizes, row, Cursor{0, g.searched_strides});
    out[to] = found;
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, element, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

template <class G, class T>
void argmax(const G& g, int64_t* out, const T* self) {
  search(g, out, self, [](T v, T best) { return v > best; });
}

template <class G, class T>
void argmin(const G& g, int64_t* out, const T* self) {
  search(g, out, self, [](T v, T best) { return v < best; });
}

}  // namespace et
