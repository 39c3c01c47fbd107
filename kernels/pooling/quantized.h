// Pooling of int8 images, channels last.
#pragma once

#include <stdint.h>

#include "et/requantize.h"
#include "et/taps.h"

namespace et {

struct Maximum8Shape {
  int32_t in_width, out_width, channels, kernel_rows, kernel_width, stride, pad, dilation, low, high;
};

// One output row, (out_width, channels).
inline __attribute__((noinline)) void maximum8_row(const Maximum8Shape& shape, int8_t* out, const int8_t* const* rows) {
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const int32_t left = position * shape.stride - shape.pad;
    const Taps taps = taps_inside(left, shape.in_width, shape.kernel_width, shape.dilation);
    const int32_t at = (left + taps.first * shape.dilation) * shape.channels;
    for (int32_t channel = 0; channel < shape.channels; ++channel) {
      int32_t best = -128;
      for (int32_t y = 0; y < shape.kernel_rows; ++y) {
        const int8_t* x = rows[y] + at + channel;
        for (int32_t tap = taps.first; tap < taps.last; ++tap) {
          best = larger(best, *x);
          x += shape.dilation * shape.channels;
        }
      }
      *out++ = saturated(best, shape.low, shape.high);
    }
  }
}

template <class G>
inline void quantized_max_pool(const G& g, int8_t* out, const int8_t* const* rows) {
  maximum8_row(
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

// kToEven: the scale stays, and ties go to the even value. kDivided: as TFLite divides, the nearest stored value, ties
// away from 0; scale and zero point stay.
enum class AverageRounding { kNearest, kToEven, kDivided };

template <AverageRounding kRounding>
__attribute__((noinline)) void average8_images(const Average8Images& shape, int8_t* out, const int8_t* x,
                                               const int32_t* multipliers) {
  constexpr bool kByDivision = kRounding == AverageRounding::kDivided;
  const int32_t row_step = shape.in_width * shape.channels;
  for (int32_t n = 0; n < shape.batch; ++n) {
    for (int32_t row = 0; row < shape.out_height; ++row) {
      const int32_t top = row * shape.stride_y - shape.pad_y;
      const Taps down = taps_inside(top, shape.in_height, shape.kernel_height, 1);
      const int32_t rows = counted8(top, shape.in_height, shape.kernel_height, shape.pad_y, down, shape.include_pad);
      for (int32_t column = 0; column < shape.out_width; ++column) {
        const int32_t left = column * shape.stride_x - shape.pad_x;
        const Taps across = taps_inside(left, shape.in_width, shape.kernel_width, 1);
        const int32_t columns =
            counted8(left, shape.in_width, shape.kernel_width, shape.pad_x, across, shape.include_pad);
        const int32_t multiplier = kByDivision ? 0 : multipliers[shape.same ? 0 : rows * columns - 1];
        const int32_t inside = (down.last - down.first) * (across.last - across.first);
        const int8_t* const corner = x + (top + down.first) * row_step + (left + across.first) * shape.channels;
        for (int32_t channel = 0; channel < shape.channels; ++channel) {
          int32_t sum = kByDivision ? 0 : -inside * shape.in_zero_point;
          for (int32_t ky = down.first; ky < down.last; ++ky) {
            const int8_t* at = corner + (ky - down.first) * row_step + channel;
            for (int32_t kx = across.first; kx < across.last; ++kx) {
              sum += *at;
              at += shape.channels;
            }
          }
          if constexpr (kByDivision) {
            *out++ = static_cast<int8_t>((sum > 0 ? sum + inside / 2 : sum - inside / 2) / inside);
          } else {
            int32_t v = requantized(sum, multiplier, shape.left_shift);
            if constexpr (kRounding == AverageRounding::kToEven) {
              v = tie_to_even(v, sum, shape.divisor != 0 ? shape.divisor : rows * columns);
            }
            *out++ = saturated(v + shape.out_zero_point, shape.low, shape.high);
          }
        }
      }
    }
    x += shape.in_height * row_step;
  }
}

template <class G, AverageRounding kRounding>
inline void quantized_avg_pool_by(const G& g, int8_t* out, const int8_t* x, const int32_t* multipliers) {
  average8_images<kRounding>(
      {g.batch,        g.in_height,     g.in_width,       g.out_height, g.out_width, g.channels,    g.kernel_height,
       g.kernel_width, g.stride_y,      g.stride_x,       g.pad_y,      g.pad_x,     g.include_pad, g.same,
       g.divisor,      g.in_zero_point, g.out_zero_point, g.left_shift, g.low,       g.high},
      out, x, multipliers);
}

template <class G>
inline void quantized_avg_pool(const G& g, int8_t* out, const int8_t* x, const int32_t* multipliers) {
  quantized_avg_pool_by<G, AverageRounding::kNearest>(g, out, x, multipliers);
}

template <class G>
inline void quantized_avg_pool_to_even(const G& g, int8_t* out, const int8_t* x, const int32_t* multipliers) {
  quantized_avg_pool_by<G, AverageRounding::kToEven>(g, out, x, multipliers);
}

template <class G>
inline void quantized_avg_pool_divided(const G& g, int8_t* out, const int8_t* x) {
  quantized_avg_pool_by<G, AverageRounding::kDivided>(g, out, x, nullptr);
}

}  // namespace et
