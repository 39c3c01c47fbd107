// Average pooling over channels-last data.
#pragma once

#include <stdint.h>

#include "et/taps.h"

namespace et {

// out[c] = clamped(scale * sum of row(y)[x * channels + c]), y in [begin, end), x in [0, columns): kLanes channels.
template <int32_t kLanes, class Row>
inline __attribute__((always_inline)) void average_lanes(float* out, int32_t begin, int32_t end, int32_t columns,
                                                         int32_t channels, float scale, float low, float high,
                                                         const Row& row) {
  float sum[kLanes];
#pragma GCC unroll 4
  for (int32_t c = 0; c < kLanes; ++c) {
    sum[c] = 0.0f;
  }
  for (int32_t y = begin; y < end; ++y) {
    const float* x = row(y);
    for (int32_t column = 0; column < columns; ++column) {
#pragma GCC unroll 4
      for (int32_t c = 0; c < kLanes; ++c) {
        sum[c] += x[c];
      }
      x += channels;
    }
  }
#pragma GCC unroll 4
  for (int32_t c = 0; c < kLanes; ++c) {
    out[c] = clamped(sum[c] * scale, low, high);
  }
}

// One window, all channels; row(y) points to its first column.
template <class Row>
inline __attribute__((always_inline)) void average_window(float* out, int32_t begin, int32_t end, int32_t columns,
                                                          int32_t channels, float scale, float low, float high,
                                                          const Row& row) {
  int32_t channel = 0;
  for (; channel + 4 <= channels; channel += 4) {
    average_lanes<4>(out + channel, begin, end, columns, channels, scale, low, high,
                     [&](int32_t y) { return row(y) + channel; });
  }
  for (; channel < channels; ++channel) {
    average_lanes<1>(out + channel, begin, end, columns, channels, scale, low, high,
                     [&](int32_t y) { return row(y) + channel; });
  }
}

// `divisor` 0: the number of elements, with the padding (but not beyond it) where include_pad says so.
struct AverageShape {
  int32_t in_width, out_width, channels, kernel_rows, kernel_width, stride, pad;
  bool include_pad;
  int32_t divisor;
  float low, high;
};

// By what the columns of a window count.
inline int32_t counted(int32_t left, int32_t size, int32_t kernel, int32_t pad, const Taps& taps, bool include_pad) {
  return include_pad ? smaller(left + kernel, size + pad) - left : taps.last - taps.first;
}

// One output row, (out_width, channels), of windows that all count the same number of rows.
inline __attribute__((noinline)) void average_row(const AverageShape& shape, float* out, const float* const* rows) {
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const int32_t left = position * shape.stride - shape.pad;
    const Taps taps = taps_inside(left, shape.in_width, shape.kernel_width, 1);
    const int32_t columns = counted(left, shape.in_width, shape.kernel_width, shape.pad, taps, shape.include_pad);
    const int32_t divisor = shape.divisor != 0 ? shape.divisor : shape.kernel_rows * columns;
    const int32_t at = (left + taps.first) * shape.channels;
    average_window(out, 0, shape.kernel_rows, taps.last - taps.first, shape.channels,
                   1.0f / static_cast<float>(divisor), shape.low, shape.high, [&](int32_t y) { return rows[y] + at; });
    out += shape.channels;
  }
}

template <class G>
inline void avg_pool(const G& g, float* out, const float* const* rows) {
  average_row({g.in_width, g.out_width, g.channels, g.kernel_rows, g.kernel_width, g.stride, g.pad, g.include_pad,
               g.divisor, g.low, g.high},
              out, rows);
}

// Whole images, where windows at the upper or lower edge count fewer rows than others.
struct AverageImages {
  AverageShape row;
  int32_t batch, in_height, out_height, stride, pad;
};

inline __attribute__((noinline)) void average_images(const AverageImages& images, float* out, const float* x) {
  const AverageShape& shape = images.row;
  for (int32_t n = 0; n < images.batch; ++n) {
    for (int32_t row = 0; row < images.out_height; ++row) {
      const int32_t top = row * images.stride - images.pad;
      const Taps down = taps_inside(top, images.in_height, shape.kernel_rows, 1);
      const int32_t rows = counted(top, images.in_height, shape.kernel_rows, images.pad, down, shape.include_pad);
      for (int32_t position = 0; position < shape.out_width; ++position) {
        const int32_t left = position * shape.stride - shape.pad;
        const Taps across = taps_inside(left, shape.in_width, shape.kernel_width, 1);
        const int32_t columns = counted(left, shape.in_width, shape.kernel_width, shape.pad, across, shape.include_pad);
        const int32_t divisor = shape.divisor != 0 ? shape.divisor : rows * columns;
        average_window(out, down.first, down.last, across.last - across.first, shape.channels,
                       1.0f / static_cast<float>(divisor), shape.low, shape.high, [&](int32_t y) {
                         return x + ((top + y) * shape.in_width + left + across.first) * shape.channels;
                       });
        out += shape.channels;
      }
    }
    x += images.in_height * shape.in_width * shape.channels;
  }
}

template <class G>
inline void avg_pool_images(const G& g, float* out, const float* x) {
  average_images({{g.in_width, g.out_width, g.channels, g.kernel_rows, g.kernel_width, g.stride, g.pad, g.include_pad,
                   g.divisor, g.low, g.high},
                  g.batch,
                  g.in_height,
                  g.out_height,
                  g.stride_y,
                  g.pad_y},
                 out, x);
}

}  // namespace et
