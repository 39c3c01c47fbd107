// Maximum pooling of channels-last rows that says where each maximum is. A NaN in a window is its maximum.
#pragma once

#include <stdint.h>

#include "pooling/reach.h"

namespace et {

// An index counts along (H, W) within one image, `line` to a row of H. `least` is what every value reaches.
template <class T>
struct IndexedRow {
  int32_t out_width, channels, line;
  T least, low, high;
};

// One output row, (out_width, channels), of windows that have the rows of `down`, `distance` apart. The first maximum,
// the last NaN, in the order of the indices. kColumns: which is down the columns, for (C, H, W) lies as (C, W, H).
template <bool kColumns, class T, class Across>
__attribute__((noinline)) void indexed_row(const IndexedRow<T>& shape, const Across& across, const Reach& down,
                                           int32_t distance, T* out, int64_t* indices, const T* const* rows) {
  const int32_t step = across.dilation * shape.channels;
  const int32_t to_line = shape.line * (kColumns ? across.dilation : distance);
  const int32_t to_next = kColumns ? distance : across.dilation;
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const Reach reach = across.of(position);
    const int32_t corner = kColumns ? reach.at * shape.line + down.at : down.at * shape.line + reach.at;
    for (int32_t channel = 0; channel < shape.channels; ++channel) {
      const int32_t at = reach.at * shape.channels + channel;
      T best = shape.least;
      int32_t index = corner;
      int32_t line = corner;
      for (int32_t outer = 0; outer < (kColumns ? reach.taps : down.taps); ++outer) {
        for (int32_t inner = 0; inner < (kColumns ? down.taps : reach.taps); ++inner) {
          const T value = kColumns ? rows[inner][at + outer * step] : rows[outer][at + inner * step];
          if (value > best || is_nan(value)) {
            best = value;
            index = line + inner * to_next;
          }
        }
        line += to_line;
      }
      *out++ = clamped(best, shape.low, shape.high);
      *indices++ = index;
    }
  }
}

template <bool kColumns, class Across, class Down, class G, class T>
inline void max_pool_with_indices(const G& g, T* out, const T* const* rows, int32_t row, int64_t* indices) {
  const Down down = Down::down(g);
  const Reach reach = down.of(row);
  indexed_row<kColumns, T, Across>(
      {g.out_width, g.channels, g.line, static_cast<T>(g.least), static_cast<T>(g.low), static_cast<T>(g.high)},
      Across::across(g), reach, down.dilation, out, indices, rows + reach.first);
}

}  // namespace et
