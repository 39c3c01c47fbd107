// Average pooling to a given output size: windows differ in size and may overlap.
#pragma once

#include <stdint.h>

#include "pooling/average.h"

namespace et {

struct AdaptiveShape {
  int32_t batch, in_height, in_width, out_height, out_width, channels;
  float low, high;
};

// Window i of `out` windows over `in` elements is [i * in / out, (i + 1) * in / out), rounded outwards. in * out fits.
inline int32_t window_begin(int32_t i, int32_t in, int32_t out) { return i * in / out; }

inline int32_t window_end(int32_t i, int32_t in, int32_t out) { return ((i + 1) * in + out - 1) / out; }

// (batch, in_height, in_width, channels) -> (batch, out_height, out_width, channels)
inline __attribute__((noinline)) void adaptive_average(const AdaptiveShape& shape, float* out, const float* x) {
  for (int32_t n = 0; n < shape.batch; ++n) {
    for (int32_t row = 0; row < shape.out_height; ++row) {
      const int32_t top = window_begin(row, shape.in_height, shape.out_height);
      const int32_t bottom = window_end(row, shape.in_height, shape.out_height);
      for (int32_t column = 0; column < shape.out_width; ++column) {
        const int32_t left = window_begin(column, shape.in_width, shape.out_width);
        const int32_t columns = window_end(column, shape.in_width, shape.out_width) - left;
        average_window(out, top, bottom, columns, shape.channels, 1.0f / static_cast<float>((bottom - top) * columns),
                       shape.low, shape.high,
                       [&](int32_t y) { return x + (y * shape.in_width + left) * shape.channels; });
        out += shape.channels;
      }
    }
    x += shape.in_height * shape.in_width * shape.channels;
  }
}

template <class G>
inline void adaptive_avg_pool(const G& g, float* out, const float* x) {
  adaptive_average({g.batch, g.in_height, g.in_width, g.out_height, g.out_width, g.channels, g.low, g.high}, out, x);
}

}  // namespace et
