// int8 depthwise convolution over channels-last rows, any window: every output channel sees one input channel.
#pragma once

#include <stdint.h>

#include "convolution/quantized_dense.h"
#include "et/taps.h"

namespace et {

// A row of results. multiplier: output channels for each of the `channels` input channels.
struct Depthwise8 {
  int32_t in_width, channels, multiplier, out_width, kernel_height, kernel_width, stride_x, pad_x, dilation_x;
  int32_t input_zero;
  Store8 store;
};

// Where a position's window lies: the first byte of its first tap inside the image in rows[0], rows[1], ...
struct Seen {
  const int8_t* const* rows;
  Taps x;
  int32_t at;
};

// kLanes output channels of one position: sums[c] += sum((x - zero) * w) over the taps inside the row. Inputs of
// neighbouring outputs lie `apart` bytes apart (0: they share one).
template <int32_t kLanes>
inline __attribute__((always_inline)) void depthwise_sums(const Depthwise8& layer, const Seen& seen, int32_t channel,
                                                          int32_t apart, const int8_t* weight,
                                                          int32_t (&sums)[kLanes]) {
  const int32_t zero = layer.input_zero;
  const int32_t step = layer.dilation_x * layer.channels;
  for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
    const int8_t* x = seen.rows[ky] + seen.at + channel;
    const int8_t* w = weight + (ky * layer.kernel_width + seen.x.first) * 4;
    for (int32_t kx = seen.x.first; kx < seen.x.last; ++kx) {
#pragma GCC unroll 4
      for (int32_t c = 0; c < kLanes; ++c) {
        sums[c] += (x[c * apart] - zero) * w[c];
      }
      x += step;
      w += 4;
    }
  }
}

// Packed for each block of 4 output channels: biases [4] (without the input's zero point), multipliers [4], shifts [4],
// weights [tap][4].
template <bool kTwice>
__attribute__((noinline)) void depthwise8_position(const Depthwise8& layer, int8_t* out, const Seen& seen,
                                                   const int8_t* packed) {
  const int32_t outputs = layer.channels * layer.multiplier;
  const int32_t block = 48 + 4 * layer.kernel_height * layer.kernel_width;
  const auto store = [&](int32_t at, int32_t sum, const int8_t* words) {
    const int32_t multiplier = word_at(words + 16);
    const int32_t shift = word_at(words + 32);
    const int32_t scaled = kTwice ? requantized_twice(sum, multiplier, shift) : requantized(sum, multiplier, shift);
    out[at] = saturated(scaled + layer.store.zero_point, layer.store.low, layer.store.high);
  };
  int32_t at = 0;
  if (layer.multiplier == 1) {
    for (; at + 4 <= outputs; at += 4) {
      int32_t sums[4] = {word_at(packed), word_at(packed + 4), word_at(packed + 8), word_at(packed + 12)};
      depthwise_sums<4>(layer, seen, at, 1, packed + 48, sums);
#pragma GCC unroll 4
      for (int32_t c = 0; c < 4; ++c) {
        store(at + c, sums[c], packed + 4 * c);
      }
      packed += block;
    }
  }
  int32_t channel = at;  // of the input
  int32_t share = 0;     // which of its results
  for (; at < outputs; ++at) {
    const int32_t lane = at & 3;
    int32_t sums[1] = {word_at(packed + 4 * lane)};
    depthwise_sums<1>(layer, seen, channel, 0, packed + 48 + lane, sums);
    store(at, sums[0], packed + 4 * lane);
    packed += lane == 3 ? block : 0;
    if (++share == layer.multiplier) {
      share = 0;
      ++channel;
    }
  }
}

template <bool kTwice>
__attribute__((noinline)) void depthwise8_row(const Depthwise8& layer, int8_t* out, const int8_t* const* rows,
                                              const int8_t* packed) {
  for (int32_t x = 0; x < layer.out_width; ++x) {
    const int32_t left = x * layer.stride_x - layer.pad_x;
    const Taps taps = taps_inside(left, layer.in_width, layer.kernel_width, layer.dilation_x);
    const int32_t at = (left + taps.first * layer.dilation_x) * layer.channels;
    depthwise8_position<kTwice>(layer, out, {rows, taps, at}, packed);
    out += layer.channels * layer.multiplier;
  }
}

// G: the members of Depthwise8, and zero_point, low, high of what is stored. One row.
template <bool kTwice, class G>
inline void quantized_depthwise(const G& g, int8_t* out, const int8_t* const* rows, const int8_t* packed) {
  const Depthwise8 layer = {g.in_width,
                            g.channels,
                            g.multiplier,
                            g.out_width,
                            g.kernel_height,
                            g.kernel_width,
                            g.stride_x,
                            g.pad_x,
                            g.dilation_x,
                            g.input_zero,
                            {g.zero_point, g.low, g.high}};
  depthwise8_row<kTwice>(layer, out, rows, packed);
}

}  // namespace et
