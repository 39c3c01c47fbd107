// The largest element of each of a given number of windows, which differ in size and may overlap, and where it is.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"

namespace et {

// Window i of `out` windows over `in` elements is [i * in / out, (i + 1) * in / out), rounded outwards. in * out fits.
struct Part {
  int32_t begin, end;
};

inline Part part_of(int32_t i, int32_t in, int32_t out) { return Part{i * in / out, ((i + 1) * in + out - 1) / out}; }

// The first largest element, or the last NaN, and its index, counted along (height, width). G: in_sizes and
// self_strides of height and width.
template <class G, class T>
inline int32_t largest(const G& g, const T* x, Part down, Part across) {
  int32_t found = down.begin * g.in_sizes[1] + across.begin;
  T best = x[down.begin * g.self_strides[2] + across.begin * g.self_strides[3]];
  for (int32_t row = down.begin; row < down.end; ++row) {
    for (int32_t column = across.begin; column < across.end; ++column) {
      const T value = x[row * g.self_strides[2] + column * g.self_strides[3]];
      if (value > best || is_nan(value)) {
        best = value;
        found = row * g.in_sizes[1] + column;
      }
    }
  }
  return found;
}

// Calls body(index within the image, the image and channel, the output's row and column). G: sizes of the output,
// (n, c, h, w), in_sizes of the input's height and width, self_strides (n, c, h, w).
template <class G, class T, class Body>
inline __attribute__((always_inline)) void each_largest(const G& g, const T* x, const Body& body) {
  for (int32_t n = 0; n < g.sizes[0]; ++n) {
    for (int32_t row = 0; row < g.sizes[2]; ++row) {
      const Part down = part_of(row, g.in_sizes[0], g.sizes[2]);
      for (int32_t column = 0; column < g.sizes[3]; ++column) {
        const Part across = part_of(column, g.in_sizes[1], g.sizes[3]);
        for (int32_t c = 0; c < g.sizes[1]; ++c) {
          const T* const image = x + n * g.self_strides[0] + c * g.self_strides[1];
          const int32_t index = largest(g, image, down, across);
          const int32_t at = index / g.in_sizes[1] * g.self_strides[2] + index % g.in_sizes[1] * g.self_strides[3];
          body(index, image[at], n, c, row, column);
        }
      }
    }
  }
}

// (n, c, in_h, in_w) -> (n, c, h, w), as they lie. G: those of each_largest and out_strides.
template <class G, class T>
void adaptive_max_pool(const G& g, T* out, const T* x) {
  const int32_t* const steps = g.out_strides;
  each_largest(g, x, [&](int32_t, T value, int32_t n, int32_t c, int32_t row, int32_t column) {
    out[n * steps[0] + c * steps[1] + row * steps[2] + column * steps[3]] = value;
  });
}

// G: also index_strides.
template <class G, class T>
void adaptive_max_pool(const G& g, T* out, int64_t* indices, const T* x) {
  const int32_t* const steps = g.out_strides;
  const int32_t* const places = g.index_strides;
  each_largest(g, x, [&](int32_t index, T value, int32_t n, int32_t c, int32_t row, int32_t column) {
    out[n * steps[0] + c * steps[1] + row * steps[2] + column * steps[3]] = value;
    indices[n * places[0] + c * places[1] + row * places[2] + column * places[3]] = index;
  });
}

}  // namespace et
