// int8 depthwise convolution over (n, h, w, c): every output channel sees one input channel.
#pragma once

#include <stdint.h>

#include "quantized_convolution/dense.h"

namespace et {

// multiplier: output channels for each of the `channels` input channels.
struct Depthwise8 {
  int32_t batch, in_height, in_width, channels, multiplier, out_height, out_width;
  int32_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
  int32_t input_zero;
  Store8 store;
};

template <class G>
inline Depthwise8 depthwise8_of(const G& g) {
  return {g.batch,         g.in_height,    g.in_width, g.channels, g.multiplier, g.out_height, g.out_width,
          g.kernel_height, g.kernel_width, g.stride_y, g.stride_x, g.pad_y,      g.pad_x,      g.dilation_y,
          g.dilation_x,    g.input_zero,   {g.zero_point, g.low, g.high}};
}

// Packed for each block of 4 output channels: biases [4], multipliers [4], shifts [4], weights [tap][4].
template <bool kTwice>
__attribute__((noinline)) void depthwise8_row(const Depthwise8& layer, int8_t* out, const int8_t* image, int32_t y,
                                              const int8_t* packed) {
  const int32_t outputs = layer.channels * layer.multiplier;
  const int32_t taps = layer.kernel_height * layer.kernel_width;
  for (int32_t x = 0; x < layer.out_width; ++x) {
    const int8_t* block = packed;
    int32_t channel = 0;  // of the input
    int32_t share = 0;    // which of its results
    for (int32_t at = 0; at < outputs; at += 4) {
      const int32_t count = smaller(outputs - at, 4);
      for (int32_t c = 0; c < count; ++c) {
        int32_t sum = word_at(block + 4 * c);
        const int8_t* weight = block + 48 + c;
        for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
          const int32_t row = y * layer.stride_y - layer.pad_y + ky * layer.dilation_y;
          const bool row_inside = row >= 0 && row < layer.in_height;
          for (int32_t kx = 0; kx < layer.kernel_width; ++kx) {
            const int32_t column = x * layer.stride_x - layer.pad_x + kx * layer.dilation_x;
            const bool inside = row_inside && column >= 0 && column < layer.in_width;
            const int32_t value =
                inside ? image[(row * layer.in_width + column) * layer.channels + channel] : layer.input_zero;
            sum += value * *weight;
            weight += 4;
          }
        }
        const int32_t multiplier = word_at(block + 16 + 4 * c);
        const int32_t shift = word_at(block + 32 + 4 * c);
        const int32_t scaled =
            kTwice ? requantized_twice(sum, multiplier, shift) : requantized(sum, multiplier, shift);
        *out++ = saturated(scaled + layer.store.zero_point, layer.store.low, layer.store.high);
        if (++share == layer.multiplier) {
          share = 0;
          ++channel;
        }
      }
      block += 48 + 4 * taps;
    }
  }
}

template <bool kTwice>
__attribute__((noinline)) void depthwise8(const Depthwise8& layer, int8_t* out, const int8_t* in,
                                          const int8_t* packed) {
  for (int32_t n = 0; n < layer.batch; ++n) {
    for (int32_t y = 0; y < layer.out_height; ++y) {
      depthwise8_row<kTwice>(layer, out, in, y, packed);
      out += layer.out_width * layer.channels * layer.multiplier;
    }
    in += layer.in_height * layer.in_width * layer.channels;
  }
}

// G: the members of Depthwise8, and zero_point, low, high of what is stored.
template <bool kTwice, class G>
inline void quantized_depthwise(const G& g, int8_t* out, const int8_t* in, const int8_t* packed) {
  depthwise8<kTwice>(depthwise8_of(g), out, in, packed);
}

}  // namespace et
