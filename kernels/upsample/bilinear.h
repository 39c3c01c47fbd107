// Bilinear resizing of channels-last images.
#pragma once

#include <stdint.h>

namespace et {

struct BilinearShape {
  int32_t batch, in_height, in_width, out_height, out_width, channels;
};

// Output row i lies between input rows rows[2 * i] and rows[2 * i + 1], row_shares[i] of the way to the second; columns
// likewise.
inline __attribute__((noinline)) void resize(const BilinearShape& s, float* out, const float* x, const int32_t* rows,
                                             const float* row_shares, const int32_t* columns,
                                             const float* column_shares) {
  const int32_t line = s.in_width * s.channels;
  for (int32_t n = 0; n < s.batch; ++n) {
    for (int32_t i = 0; i < s.out_height; ++i) {
      const float* const top = x + rows[2 * i] * line;
      const float* const bottom = x + rows[2 * i + 1] * line;
      const float down = row_shares[i];
      for (int32_t j = 0; j < s.out_width; ++j) {
        const int32_t left = columns[2 * j] * s.channels;
        const int32_t right = columns[2 * j + 1] * s.channels;
        const float across = column_shares[j];
        for (int32_t c = 0; c < s.channels; ++c) {
          const float above = (1.0f - across) * top[left + c] + across * top[right + c];
          const float below = (1.0f - across) * bottom[left + c] + across * bottom[right + c];
          *out++ = (1.0f - down) * above + down * below;
        }
      }
    }
    x += s.in_height * line;
  }
}

template <class G>
inline void upsample_bilinear(const G& g, float* out, const float* x, const int32_t* rows, const float* row_shares,
                              const int32_t* columns, const float* column_shares) {
  resize({g.batch, g.in_height, g.in_width, g.out_height, g.out_width, g.channels}, out, x, rows, row_shares, columns,
         column_shares);
}

}  // namespace et
