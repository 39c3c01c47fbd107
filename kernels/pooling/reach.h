// Where the windows of pooling lie along an axis.
#pragma once

#include <stdint.h>

#include "et/taps.h"

namespace et {

// What a window sees of a row, or of the rows: `taps` elements inside, the first of which is its tap `first` and lies
// at position `at`; an average counts `counted`.
struct Reach {
  int32_t first, taps, at, counted;
};

// Neighbours, all inside, a fixed distance from window to window; of rows, every one in the table.
struct Inside {
  int32_t kernel, stride;
  static constexpr int32_t dilation = 1;

  template <class G>
  static Inside across(const G& g) {
    return {g.kernel_width, g.stride};
  }
  template <class G>
  static Inside down(const G& g) {
    return {g.kernel_rows, 0};
  }
  Reach of(int32_t window) const { return {0, kernel, window * stride, kernel}; }
};

// Neighbours, a fixed distance from window to window. include_pad: what lies in the padding counts, too, but nothing
// beyond it.
struct Sliding {
  int32_t size, kernel, stride, pad;
  bool include_pad;
  static constexpr int32_t dilation = 1;

  template <class G>
  static Sliding across(const G& g) {
    return {g.in_width, g.kernel_width, g.stride, g.pad, g.include_pad};
  }
  template <class G>
  static Sliding down(const G& g) {
    return {g.in_height, g.kernel_rows, g.stride_y, g.pad_y, g.include_pad};
  }
  Reach of(int32_t window) const {
    const int32_t begin = window * stride - pad;
    const int32_t first = larger(-begin, 0);
    const int32_t taps = smaller(size - begin, kernel) - first;
    return {first, taps, begin + first, include_pad ? smaller(size + pad - begin, kernel) : taps};
  }
};

// Elements a fixed distance apart.
struct Dilated {
  int32_t size, kernel, stride, pad, dilation;

  template <class G>
  static Dilated across(const G& g) {
    return {g.in_width, g.kernel_width, g.stride, g.pad, g.dilation};
  }
  template <class G>
  static Dilated down(const G& g) {
    return {g.in_height, g.kernel_rows, g.stride_y, g.pad_y, g.dilation_y};
  }
  Reach of(int32_t window) const {
    const int32_t begin = window * stride - pad;
    if (begin >= 0 && begin + (kernel - 1) * dilation < size) {  // most windows lie inside, and division may be slow
      return {0, kernel, begin, kernel};
    }
    const Taps inside = taps_inside(begin, size, kernel, dilation);
    const int32_t taps = inside.last - inside.first;
    return {inside.first, taps, begin + inside.first * dilation, taps};
  }
};

// As many windows as there are results, which differ in size and may overlap: i is [i * size / windows,
// (i + 1) * size / windows), rounded outwards. size * windows fits.
struct Adaptive {
  int32_t size, windows;
  static constexpr int32_t dilation = 1;

  template <class G>
  static Adaptive across(const G& g) {
    return {g.in_width, g.out_width};
  }
  template <class G>
  static Adaptive down(const G& g) {
    return {g.in_height, g.out_height};
  }
  Reach of(int32_t window) const {
    const int32_t begin = window * size / windows;
    const int32_t taps = ((window + 1) * size + windows - 1) / windows - begin;
    return {0, taps, begin, taps};
  }
};

}  // namespace et
