// Sweeps a windowed kernel (convolution, pooling, resizing) over the rows of its output.
#pragma once

#include <stdint.h>

namespace et {

// Calls kernel(out_row, rows, index, row, count) for every R output rows of every image, of which there are `count`
// (fewer at the end of an image), where rows[k] points to the k-th input row of their windows, of which the first is
// first(row); a row outside the image is pad_row. `row` counts the output rows of an image, `index` those of all
// images. W: batch, in_rows, in_row, out_rows, out_row, kernel, stride, pad, dilation (see etexport.kernel.op.Window);
// begin_row, the row of the first call in each image, and row_step, R, or -R where rows are swept from the last to the
// first; and the constant most_rows, at least the number of rows that a call sees.
template <class W, class T, class First, class Kernel>
inline __attribute__((always_inline)) void sweep_from(const W& w, T* out, const T* in, const T* pad_row,
                                                      const First& first, const Kernel& kernel) {
  const bool upward = w.row_step < 0;
  const int32_t most = upward ? -w.row_step : w.row_step;
  const int32_t seen = w.kernel + (most - 1) * w.stride;
  const T* rows[W::most_rows];
  for (int32_t done = 0; done < w.batch; ++done) {
    const int32_t n = upward ? w.batch - 1 - done : done;
    const T* image = in + n * w.in_rows * w.in_row;
    for (int32_t row = w.begin_row; row >= 0 && row < w.out_rows; row += w.row_step) {
      const int32_t begin = first(row);
      for (int32_t k = 0; k < seen; ++k) {
        const int32_t from = begin + k * w.dilation;
        rows[k] = from < 0 || from >= w.in_rows ? pad_row : image + from * w.in_row;
      }
      const int32_t index = n * w.out_rows + row;
      const int32_t left = w.out_rows - row;
      kernel(out + index * w.out_row, rows, index, row, left < most ? left : most);
    }
  }
}

template <class W, class T, class Kernel>
inline void sweep(const W& w, T* out, const T* in, const T* pad_row, Kernel kernel) {
  sweep_from(w, out, in, pad_row, [&](int32_t row) { return row * w.stride - w.pad; }, kernel);
}

// Windows at no fixed distance: firsts[row] is the first input row of each.
template <class W, class T, class Place, class Kernel>
inline void sweep(const W& w, T* out, const T* in, const T* pad_row, const Place* firsts, Kernel kernel) {
  sweep_from(w, out, in, pad_row, [&](int32_t row) { return static_cast<int32_t>(firsts[row]); }, kernel);
}

}  // namespace et
