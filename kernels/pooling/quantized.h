// Pooling of int8 images, channels last. Core: how one window is computed (window8.h, window8_dsp.h).
#pragma once

#include <stdint.h>

#include "et/taps.h"
#include "pooling/window8.h"

namespace et {

struct Maximum8Shape {
  int32_t in_width, out_width, channels, kernel_rows, kernel_width, stride, pad, dilation, low, high;
};

// One output row, (out_width, channels).
template <class Core>
__attribute__((noinline)) void maximum8_row(const Maximum8Shape& shape, int8_t* out, const int8_t* const* rows) {
  const int32_t reach = (shape.kernel_width - 1) * shape.dilation;
  int32_t left = -shape.pad;
  for (int32_t position = 0; position < shape.out_width; ++position) {
    Taps taps = {0, shape.kernel_width};
    if (left < 0 || left + reach >= shape.in_width) {  // most windows lie inside, and division may be slow
      taps = taps_inside(left, shape.in_width, shape.kernel_width, shape.dilation);
    }
    const int32_t at = (left + taps.first * shape.dilation) * shape.channels;
    Core::maximum({shape.kernel_rows, 0, taps.last - taps.first, shape.dilation * shape.channels}, shape.channels, out,
                  rows, at, shape.low, shape.high);
    out += shape.channels;
    left += shape.stride;
  }
}

template <class Core, class G>
inline void quantized_max_pool(const G& g, int8_t* out, const int8_t* const* rows) {
  maximum8_row<Core>(
      {g.in_width, g.out_width, g.channels, g.kernel_rows, g.kernel_width, g.stride, g.pad, g.dilation, g.low, g.high},
      out, rows);
}

// multipliers[n - 1] is for windows that count n elements (one entry where all count the same).
struct Average8Images {
  int32_t batch, in_height, in_width, out_height, out_width, channels;
  int32_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x;
  bool include_pad, same;
  int32_t divisor;  // 0 for the number of elements
  int32_t in_zero_point, out_zero_point, left_shift, low, high;
};

inline int32_t counted8(int32_t first, int32_t size, int32_t kernel, int32_t pad, const Taps& taps, bool include_pad) {
  return include_pad ? smaller(first + kernel, size + pad) - first : taps.last - taps.first;
}

template <class Core, AverageRounding kRounding>
__attribute__((noinline)) void average8_images(const Average8Images& shape, int8_t* out, const int8_t* x,
                                               const int32_t* multipliers) {
  const int32_t row_step = shape.in_width * shape.channels;
  for (int32_t n = 0; n < shape.batch; ++n) {
    for (int32_t row = 0; row < shape.out_height; ++row) {
      const int32_t top = row * shape.stride_y - shape.pad_y;
      const Taps down = taps_inside(top, shape.in_height, shape.kernel_height, 1);
      const int32_t rows = counted8(top, shape.in_height, shape.kernel_height, shape.pad_y, down, shape.include_pad);
      for (int32_t column = 0; column < shape.out_width; ++column) {
        const int32_t left = column * shape.stride_x - shape.pad_x;
        const Taps across = taps_inside(left, shape.in_width, shape.kernel_width, 1);
        const int32_t counted =
            rows * counted8(left, shape.in_width, shape.kernel_width, shape.pad_x, across, shape.include_pad);
        Window8 window = {down.last - down.first, row_step, across.last - across.first, shape.channels};
        if (window.taps == shape.in_width) {  // whole rows are one
          window.taps *= window.rows;
          window.rows = 1;
        }
        const int32_t inside = window.rows * window.taps;
        constexpr bool kByDivision = kRounding == AverageRounding::kDivided;
        const Average8 how = {-inside * shape.in_zero_point,
                              kByDivision ? 0 : multipliers[shape.same ? 0 : counted - 1],
                              shape.left_shift,
                              kByDivision ? inside : (shape.divisor != 0 ? shape.divisor : counted),
                              shape.out_zero_point,
                              shape.low,
                              shape.high};
        Core::template average<kRounding>(window, how, shape.channels, out,
                                          x + (top + down.first) * row_step + (left + across.first) * shape.channels);
        out += shape.channels;
      }
    }
    x += shape.in_height * row_step;
  }
}

template <class Core, AverageRounding kRounding, class G>
inline void quantized_avg_pool(const G& g, int8_t* out, const int8_t* x, const int32_t* multipliers) {
  average8_images<Core, kRounding>(
      {g.batch,        g.in_height,     g.in_width,       g.out_height, g.out_width, g.channels,    g.kernel_height,
       g.kernel_width, g.stride_y,      g.stride_x,       g.pad_y,      g.pad_x,     g.include_pad, g.same,
       g.divisor,      g.in_zero_point, g.out_zero_point, g.left_shift, g.low,       g.high},
      out, x, multipliers);
}

}  // namespace et
