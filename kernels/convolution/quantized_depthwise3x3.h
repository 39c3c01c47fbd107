// int8 depthwise convolution with 3x3 windows on any core, row by row: channel after channel along the row, so that a
// channel's weights stay in registers and each column of its inputs is read once and added to all results that see it.
//
// Packed (kernels/convolution/quantized_packing.py, pack_channels): for each channel the bias, with the input's zero
// point in, the multiplier, and the shift where there are any, then the 9 weights, filled up to 12 bytes.
#pragma once

#include <stdint.h>

#include "convolution/quantized_blocks.h"
#include "et/arithmetic.h"

namespace et {

// pad_x: 0 or 1; on the right at most 2.
struct Channels3x3 {
  int32_t in_width, channels, out_width, pad_x, input_zero;
  Store8 store;
};

// One channel's bias and weights; columns are counted in the direction in which the row is made.
struct Taps3x3 {
  int32_t bias;
  int32_t weight[3][3];

  // sum + the products of column kx.
  inline __attribute__((always_inline)) int32_t column(int32_t sum, int32_t kx, int32_t a, int32_t b, int32_t c) const {
    return sum + a * weight[0][kx] + b * weight[1][kx] + c * weight[2][kx];
  }
};

// Whether results lie over inputs behind the columns that are read with them, so that the last ones must be made first.
inline bool from_the_end(const Channels3x3& layer, const int8_t* out, const int8_t* const* rows) {
  bool behind = false;
  for (int32_t ky = 0; ky < 3; ++ky) {
    const int8_t* const read = rows[ky] + (2 - layer.pad_x) * layer.channels;
    behind = behind || (out > read && out < rows[ky] + layer.in_width * layer.channels);
  }
  return behind;
}

// One row. With a stride of 1 it may lie over its inputs from either side.
template <Scale8 kScale, int32_t kStride>
__attribute__((noinline)) void channels3x3_row(const Channels3x3& layer, int8_t* out, const int8_t* const* rows,
                                               const int8_t* packed) {
  const Store8 store = layer.store;
  const int32_t channels = layer.channels;
  const int32_t width = layer.in_width;
  const int32_t count = layer.out_width;
  const int32_t zero = layer.input_zero;
  const bool backward = kStride == 1 && from_the_end(layer, out, rows);
  const int32_t way = backward ? -1 : 1;
  const int32_t step = way * channels;
  // the first column of the first window
  const int32_t first = backward ? count - layer.pad_x + 1 : -layer.pad_x;
  // results whose windows end inside the row
  const int32_t inside =
      backward ? count - layer.pad_x : smaller(count, larger(width - first - 3 + kStride, 0) / kStride);
  if (backward) {
    out += (count - 1) * channels;
  }
  const int8_t* const begin[3] = {packed + (backward ? 2 : 0), packed + 1, packed + (backward ? 0 : 2)};
  for (int32_t channel = 0; channel < channels; ++channel) {
    constexpr int32_t kHead = kScale == Scale8::kNearest ? 8 : 12;
    const int32_t at = channel * (kHead + 12);
    const int32_t* const words = reinterpret_cast<const int32_t*>(packed + at);
    const int32_t multiplier = words[1];
    const int32_t shift = kScale == Scale8::kNearest ? 0 : words[2];
    Taps3x3 taps = {words[0], {}};
#pragma GCC unroll 3
    for (int32_t kx = 0; kx < 3; ++kx) {
      const int8_t* const weights = begin[kx] + at + kHead;
      taps.weight[0][kx] = weights[0];
      taps.weight[1][kx] = weights[3];
      taps.weight[2][kx] = weights[6];
    }
    const auto checked = [&](int32_t sum, int32_t kx, int32_t column) {
      if (column < 0 || column >= width) return taps.column(sum, kx, zero, zero, zero);
      const int32_t from = column * channels + channel;
      return taps.column(sum, kx, rows[0][from], rows[1][from], rows[2][from]);
    };
    int8_t* to = out + channel;
    const auto store_sum = [&](int32_t sum) __attribute__((always_inline)) {
      *to = stored8<kScale>(store, sum, multiplier, shift);
      to += step;
    };
    int32_t sum = checked(taps.bias, 0, first);
    if constexpr (kStride == 1) {
      sum = checked(sum, 1, first + way);
      int32_t next = checked(taps.bias, 0, first + way);
      const int32_t from = (first + 2 * way) * channels + channel;
      const int8_t* a = rows[0] + from;
      const int8_t* b = rows[1] + from;
      const int8_t* c = rows[2] + from;
      int32_t far = step;
      const int8_t outside = static_cast<int8_t>(zero);
      for (int32_t left = inside;;) {
        for (; left > 0; --left) {
          const int32_t result = taps.column(sum, 2, *a, *b, *c);
          sum = taps.column(next, 1, *a, *b, *c);
          next = taps.column(taps.bias, 0, *a, *b, *c);
          a += far;
          b += far;
          c += far;
          store_sum(result);
        }
        if (far == 0 || inside == count) break;
        left = count - inside;
        a = b = c = &outside;
        far = 0;
      }
    } else {
      const int32_t from = (first + 1) * channels + channel;
      const int8_t* a = rows[0] + from;
      const int8_t* b = rows[1] + from;
      const int8_t* c = rows[2] + from;
      for (int32_t left = inside; left > 0; --left) {
        const int32_t half = taps.column(sum, 1, *a, *b, *c);
        a += channels;
        b += channels;
        c += channels;
        const int32_t result = taps.column(half, 2, *a, *b, *c);
        sum = taps.column(taps.bias, 0, *a, *b, *c);
        a += channels;
        b += channels;
        c += channels;
        store_sum(result);
      }
      for (int32_t i = inside; i < count; ++i) {
        store_sum(checked(checked(sum, 1, first + 2 * i + 1), 2, first + 2 * i + 2));
        sum = checked(taps.bias, 0, first + 2 * i + 2);
      }
    }
  }
}

// G: the members of Channels3x3, and zero_point, low, high of what is stored.
template <Scale8 kScale, int32_t kStride, class G>
inline void quantized_depthwise_channels(const G& g, int8_t* out, const int8_t* const* rows, const int8_t* packed) {
  const Channels3x3 layer = {g.in_width, g.channels, g.out_width, g.pad_x, g.input_zero, {g.zero_point, g.low, g.high}};
  channels3x3_row<kScale, kStride>(layer, out, rows, packed);
}

}  // namespace et
