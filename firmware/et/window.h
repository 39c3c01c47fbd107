// Sweeps a windowed kernel (convolution, pooling) over the rows of its output.
#pragma once

#include <stdint.h>

namespace et {

// Calls kernel(out_row, rows, row, count) for every `rows_per_call` output rows of every image, of which there are
// `count` (fewer at the end of an image), where rows[k] points to the k-th input row of their windows; a row outside the
// image is pad_row. `row` counts output rows over all images.
// W: batch, in_rows, in_row, out_rows, out_row, kernel, stride, pad, dilation, rows_per_call (see etexport.op.Window),
// and the constant most_rows, at least the number of rows that a call sees.
template <class W, class T, class Kernel>
inline void sweep(const W& w, T* out, const T* in, const T* pad_row, Kernel kernel) {
  const int32_t seen = w.kernel + (w.rows_per_call - 1) * w.stride;
  const T* rows[W::most_rows];
  for (int32_t n = 0; n < w.batch; ++n) {
    const T* image = in + n * w.in_rows * w.in_row;
    for (int32_t row = 0; row < w.out_rows; row += w.rows_per_call) {
      for (int32_t k = 0; k < seen; ++k) {
        const int32_t at = row * w.stride - w.pad + k * w.dilation;
        rows[k] = at < 0 || at >= w.in_rows ? pad_row : image + at * w.in_row;
      }
      const int32_t index = n * w.out_rows + row;
      const int32_t left = w.out_rows - row;
      kernel(out + index * w.out_row, rows, index, left < w.rows_per_call ? left : w.rows_per_call);
    }
  }
}

}  // namespace et
