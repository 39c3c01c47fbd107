// Nearest-neighbour resizing of channels-last images.
#pragma once

#include <stdint.h>
#include <string.h>

namespace et {

struct NearestShape {
  int32_t batch, in_height, in_width, out_height, out_width, channels;
};

// rows[i] and columns[j] say which input row and column output row i and column j are copies of.
template <class T>
inline __attribute__((noinline)) void nearest(const NearestShape& shape, T* out, const T* x, const int32_t* rows,
                                              const int32_t* columns) {
  const uint32_t bytes = static_cast<uint32_t>(shape.channels) * sizeof(T);
  for (int32_t n = 0; n < shape.batch; ++n) {
    for (int32_t i = 0; i < shape.out_height; ++i) {
      const T* row = x + rows[i] * shape.in_width * shape.channels;
      for (int32_t j = 0; j < shape.out_width; ++j) {
        memcpy(out, row + columns[j] * shape.channels, bytes);
        out += shape.channels;
      }
    }
    x += shape.in_height * shape.in_width * shape.channels;
  }
}

template <class G, class T>
inline void upsample_nearest(const G& g, T* out, const T* x, const int32_t* rows, const int32_t* columns) {
  nearest({g.batch, g.in_height, g.in_width, g.out_height, g.out_width, g.channels}, out, x, rows, columns);
}

}  // namespace et
