// Average pooling of int8 images to a given output size. Core: how one window is computed (pooling/window8.h).
#pragma once

#include <stdint.h>

#include "adaptive_avg_pool/adaptive.h"
#include "pooling/window8.h"

namespace et {

// multipliers[(rows - least_rows) * widths + columns - least_columns] is for windows of rows x columns elements.
struct Adaptive8Shape {
  int32_t batch, in_height, in_width, out_height, out_width, channels;
  int32_t least_rows, least_columns, widths;
  int32_t in_zero_point, out_zero_point, left_shift, low, high;
};

template <class Core, AverageRounding kRounding>
__attribute__((noinline)) void adaptive8_images(const Adaptive8Shape& shape, int8_t* out, const int8_t* x,
                                                const int32_t* multipliers) {
  const int32_t row_step = shape.in_width * shape.channels;
  for (int32_t n = 0; n < shape.batch; ++n) {
    for (int32_t row = 0; row < shape.out_height; ++row) {
      const int32_t top = window_begin(row, shape.in_height, shape.out_height);
      const int32_t rows = window_end(row, shape.in_height, shape.out_height) - top;
      for (int32_t column = 0; column < shape.out_width; ++column) {
        const int32_t left = window_begin(column, shape.in_width, shape.out_width);
        const int32_t columns = window_end(column, shape.in_width, shape.out_width) - left;
        const int32_t elements = rows * columns;
        const int32_t kind = (rows - shape.least_rows) * shape.widths + columns - shape.least_columns;
        const Average8 how = {-elements * shape.in_zero_point,
                              multipliers[kind],
                              shape.left_shift,
                              elements,
                              shape.out_zero_point,
                              shape.low,
                              shape.high};
        Core::template average<kRounding>({rows, row_step, columns, shape.channels}, how, shape.channels, out,
                                          x + top * row_step + left * shape.channels);
        out += shape.channels;
      }
    }
    x += shape.in_height * row_step;
  }
}

// (batch, in_height, in_width, channels) -> (batch, out_height, out_width, channels)
template <class Core, AverageRounding kRounding, class G>
inline void quantized_adaptive_avg_pool(const G& g, int8_t* out, const int8_t* x, const int32_t* multipliers) {
  adaptive8_images<Core, kRounding>(
      {g.batch, g.in_height, g.in_width, g.out_height, g.out_width, g.channels, g.least_rows, g.least_columns, g.widths,
       g.in_zero_point, g.out_zero_point, g.left_shift, g.low, g.high},
      out, x, multipliers);
}

}  // namespace et
