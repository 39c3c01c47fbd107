// Sorting along a dimension with indices, by merging: n log n comparisons whatever the data, equal ones in their order.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// Merges the places from `low` to `middle` with those to `high`; of equal ones those of the first run come first.
template <class Before>
inline void merge(int32_t* to, const int32_t* from, int32_t low, int32_t middle, int32_t high, const Before& before) {
  int32_t left = low;
  int32_t right = middle;
  for (int32_t at = low; at < high; ++at) {
    const bool second = left == middle || (right < high && before(from[right], from[left]));
    to[at] = from[second ? right++ : left++];
  }
}

// G: sizes, out_strides, index_strides, self_strides of the dimensions that stay; out_step, index_step, self_step and
// length of the one that is sorted; count: how many of its first are wanted; descending. places: 2 * length.
template <class G, class T>
void order(const G& g, T* out, int64_t* indices, int32_t* places, const T* self) {
  const auto line = [&](int32_t to, int32_t index, int32_t from) {
    const T* const values = self + from;
    // NaN is the largest
    const auto before = [&](int32_t p, int32_t q) {
      const T a = values[(g.descending ? q : p) * g.self_step];
      const T b = values[(g.descending ? p : q) * g.self_step];
      return a < b || (is_nan(b) && !is_nan(a));
    };
    int32_t* sorted = places;
    int32_t* merged = places + g.length;
    for (int32_t i = 0; i < g.length; ++i) {
      sorted[i] = i;
    }
    for (int32_t run = 1; run < g.length; run *= 2) {
      for (int32_t low = 0; low < g.length; low += 2 * run) {
        const int32_t middle = low + run < g.length ? low + run : g.length;
        const int32_t high = middle + run < g.length ? middle + run : g.length;
        merge(merged, sorted, low, middle, high, before);
      }
      int32_t* const other = sorted;
      sorted = merged;
      merged = other;
    }
    for (int32_t i = 0; i < g.count; ++i) {
      out[to + i * g.out_step] = values[sorted[i] * g.self_step];
      indices[index + i * g.index_step] = sorted[i];
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.index_strides},
                                      Cursor{0, g.self_strides});
}

}  // namespace et
