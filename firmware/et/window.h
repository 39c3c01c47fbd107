// Sweeps a windowed kernel (convolution, pooling) over the rows of its output.
#pragma once

#include <stdint.h>

namespace et {

// Calls kernel(out_row, rows, row, count) for every R output rows of every image, of which there are `count` (fewer at
// the end of an image), where rows[k] points to the k-th input row of their windows; a row outside the image is
// pad_row. `row` counts output rows over all images. W: batch, in_rows, in_row, out_rows, out_row, kernel, stride, pad,
// dilation (see etexport.op.Window); begin_row, the row of the first call in each image, and row_step, R, or -R where
// rows are swept from the last to the first; and the constant most_rows, at least the number of rows that a call sees.
template <class W, class T, class Kernel>
inline void sweep(const W& w, T* out, const T* in, const T* pad_row, Kernel kernel) {
  const bool upward = w.row_step < 0;
  const int32_t most = upward ? -w.row_step : w.row_step;
  const int32_t seen = w.kernel + (most - 1) * w.stride;
  const T* rows[W::most_rows];
  for (int32_t done = 0; done < w.batch; ++done) {
    const int32_t n = upward ? w.batch - 1 - done : done;
    const T* image = in + n * w.in_rows * w.in_row;
    for (int32_t row = w.begin_row; row >= 0 && row < w.out_rows; row += w.row_step) {
      for (int32_t k = 0; k < seen; ++k) {
        const int32_t from = row * w.stride - w.pad + k * w.dilation;
        rows[k] = from < 0 || from >= w.in_rows ? pad_row : image + from * w.in_row;
      }
      const int32_t index = n * w.out_rows + row;
      const int32_t left = w.out_rows - row;
      kernel(out + index * w.out_row, rows, index, left < most ? left : most);
    }
  }
}

}  // namespace et
