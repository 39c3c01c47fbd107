// Maximum pooling over channels-last rows. A NaN in a window is its maximum, as in PyTorch.
#pragma once

#include <stdint.h>

#include "et/taps.h"

namespace et {

struct MaximumShape {
  int32_t in_width, out_width, channels, kernel_rows, kernel_width, stride, pad, dilation;
  float low, high;
};

template <int32_t kLanes>
inline __attribute__((always_inline)) void maximum_lanes(const MaximumShape& shape, float* out,
                                                         const float* const* rows, int32_t at, int32_t taps) {
  float best[kLanes];
#pragma GCC unroll 4
  for (int32_t c = 0; c < kLanes; ++c) {
    best[c] = -__builtin_inff();
  }
  for (int32_t y = 0; y < shape.kernel_rows; ++y) {
    const float* x = rows[y] + at;
    for (int32_t tap = 0; tap < taps; ++tap) {
#pragma GCC unroll 4
      for (int32_t c = 0; c < kLanes; ++c) {
        best[c] = x[c] <= best[c] || best[c] != best[c] ? best[c] : x[c];
      }
      x += shape.dilation * shape.channels;
    }
  }
#pragma GCC unroll 4
  for (int32_t c = 0; c < kLanes; ++c) {
    out[c] = clamped(best[c], shape.low, shape.high);
  }
}

// One output row, (out_width, channels).
inline __attribute__((noinline)) void maximum_row(const MaximumShape& shape, float* out, const float* const* rows) {
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const int32_t left = position * shape.stride - shape.pad;
    const Taps taps = taps_inside(left, shape.in_width, shape.kernel_width, shape.dilation);
    const int32_t at = (left + taps.first * shape.dilation) * shape.channels;
    int32_t channel = 0;
    for (; channel + 4 <= shape.channels; channel += 4) {
      maximum_lanes<4>(shape, out + channel, rows, at + channel, taps.last - taps.first);
    }
    for (; channel < shape.channels; ++channel) {
      maximum_lanes<1>(shape, out + channel, rows, at + channel, taps.last - taps.first);
    }
    out += shape.channels;
  }
}

template <class G>
inline void max_pool(const G& g, float* out, const float* const* rows) {
  maximum_row(
      {g.in_width, g.out_width, g.channels, g.kernel_rows, g.kernel_width, g.stride, g.pad, g.dilation, g.low, g.high},
      out, rows);
}

// The maximum and where it is: the first one, the last NaN, in the order of the indices (which is not that of memory
// for (C, H, W)). Indices count within one image; row_index and column_index say by how much.
struct IndexedShape {
  int32_t batch, in_height, in_width, out_height, out_width, channels;
  int32_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, row_index,
      column_index;
  float low, high;
};

inline __attribute__((noinline)) void maximum_with_index(const IndexedShape& shape, float* out, int64_t* indices,
                                                         const float* x) {
  for (int32_t n = 0; n < shape.batch; ++n) {
    for (int32_t row = 0; row < shape.out_height; ++row) {
      const int32_t top = row * shape.stride_y - shape.pad_y;
      const Taps down = taps_inside(top, shape.in_height, shape.kernel_height, shape.dilation_y);
      for (int32_t column = 0; column < shape.out_width; ++column) {
        const int32_t left = column * shape.stride_x - shape.pad_x;
        const Taps across = taps_inside(left, shape.in_width, shape.kernel_width, shape.dilation_x);
        for (int32_t channel = 0; channel < shape.channels; ++channel) {
          float best = -__builtin_inff();
          int32_t index = (top + down.first * shape.dilation_y) * shape.row_index +
                          (left + across.first * shape.dilation_x) * shape.column_index;
          for (int32_t ky = down.first; ky < down.last; ++ky) {
            const int32_t y = top + ky * shape.dilation_y;
            for (int32_t kx = across.first; kx < across.last; ++kx) {
              const int32_t at = left + kx * shape.dilation_x;
              const float value = x[(y * shape.in_width + at) * shape.channels + channel];
              const int32_t here = y * shape.row_index + at * shape.column_index;
              const bool larger_value = value > best || (value == best && here < index);
              if (value != value ? best == best || here > index : larger_value) {
                best = value;
                index = here;
              }
            }
          }
          *out++ = clamped(best, shape.low, shape.high);
          *indices++ = index;
        }
      }
    }
    x += shape.in_height * shape.in_width * shape.channels;
  }
}

template <class G>
inline void max_pool_with_indices(const G& g, float* out, int64_t* indices, const float* x) {
  maximum_with_index({g.batch, g.in_height, g.in_width, g.out_height, g.out_width, g.channels, g.kernel_height,
                      g.kernel_width, g.stride_y, g.stride_x, g.pad_y, g.pad_x, g.dilation_y, g.dilation_x, g.row_index,
                      g.column_index, g.low, g.high},
                     out, indices, x);
}

}  // namespace et
