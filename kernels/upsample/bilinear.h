// Bilinear resizing of channels-last rows.
#pragma once

#include <stdint.h>

namespace et {

// Output column j lies between input columns columns[2 * j] and columns[2 * j + 1], column_shares[j] of the way to the
// second; the output row `down` of the way from `top` to `bottom`.
inline __attribute__((noinline)) void resize_row(int32_t out_width, int32_t channels, float* out, const float* top,
                                                 const float* bottom, float down, const int32_t* columns,
                                                 const float* column_shares) {
  for (int32_t j = 0; j < out_width; ++j) {
    const int32_t left = columns[2 * j] * channels;
    const int32_t right = columns[2 * j + 1] * channels;
    const float across = column_shares[j];
    for (int32_t c = 0; c < channels; ++c) {
      const float above = (1.0f - across) * top[left + c] + across * top[right + c];
      const float below = (1.0f - across) * bottom[left + c] + across * bottom[right + c];
      *out++ = (1.0f - down) * above + down * below;
    }
  }
}

// One output row, row_shares[row] of the way from rows[0] to rows[last], last 0 or 1. What lies beyond the last input
// row has a share of 1: only that row counts for it, whatever the one before holds.
template <class G>
inline void upsample_bilinear(const G& g, float* out, const float* const* rows, int32_t row, const float* row_shares,
                              const int32_t* columns, const float* column_shares) {
  const float down = row_shares[row];
  resize_row(g.out_width, g.channels, out, rows[down == 1.0f ? g.last : 0], rows[g.last], down, columns, column_shares);
}

}  // namespace et
