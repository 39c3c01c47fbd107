// Nearest-neighbour resizing of channels-last rows.
#pragma once

#include <stdint.h>
#include <string.h>

namespace et {

// columns[j] says which input column output column j is a copy of.
template <class T>
inline __attribute__((noinline)) void nearest_row(int32_t out_width, int32_t channels, T* out, const T* row,
                                                  const int32_t* columns) {
  const uint32_t bytes = static_cast<uint32_t>(channels) * sizeof(T);
  for (int32_t j = 0; j < out_width; ++j) {
    memcpy(out, row + columns[j] * channels, bytes);
    out += channels;
  }
}

// One output row, a copy of rows[0].
template <class G, class T>
inline void upsample_nearest(const G& g, T* out, const T* const* rows, const int32_t* columns) {
  nearest_row(g.out_width, g.channels, out, rows[0], columns);
}

}  // namespace et
