// Transposed convolution of channels-last images, as a gather: every result is the sum of the inputs that reach it.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"

namespace et {

// inputs and outputs are channels of a group. Input row r and tap k reach output row r * stride_y - pad_y + k *
// dilation_y.
struct TransposedShape {
  int32_t batch, in_height, in_width, out_height, out_width, groups, inputs, outputs;
  int32_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
  float low, high;
};

// Adds what one input pixel gives to four channels. Weights are [input][4].
inline void add_pixel(float* sums, const float* x, const float* weights, int32_t inputs) {
  float s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  for (int32_t i = 0; i < inputs; ++i) {
    const float v = x[i];
    s0 += v * weights[0];
    s1 += v * weights[1];
    s2 += v * weights[2];
    s3 += v * weights[3];
    weights += 4;
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

// Four channels of one result, before the bounds. weights are [kernel row][kernel column][input][4].
inline void gather_pixel(const TransposedShape& s, float* sums, const float* image, const float* weights, int32_t row,
                         int32_t column) {
  const int32_t pixel = s.groups * s.inputs;
  for (int32_t ky = 0; ky < s.kernel_height; ++ky) {
    const int32_t y = row + s.pad_y - ky * s.dilation_y;
    if (y < 0 || y % s.stride_y != 0 || y / s.stride_y >= s.in_height) {
      continue;
    }
    const float* const line = image + y / s.stride_y * s.in_width * pixel;
    for (int32_t kx = 0; kx < s.kernel_width; ++kx) {
      const int32_t x = column + s.pad_x - kx * s.dilation_x;
      if (x < 0 || x % s.stride_x != 0 || x / s.stride_x >= s.in_width) {
        continue;
      }
      const int32_t tap = ky * s.kernel_width + kx;
      add_pixel(sums, line + x / s.stride_x * pixel, weights + tap * s.inputs * 4, s.inputs);
    }
  }
}

// weights and bias are packed in blocks of four channels for each group, the last of a group filled up with zeros.
inline __attribute__((noinline)) void transposed(const TransposedShape& s, float* out, const float* x,
                                                 const float* weights, const float* bias, const float* residual) {
  const int32_t blocks = (s.outputs + 3) / 4;
  const int32_t block_size = s.kernel_height * s.kernel_width * s.inputs * 4;
  for (int32_t n = 0; n < s.batch; ++n) {
    for (int32_t row = 0; row < s.out_height; ++row) {
      for (int32_t column = 0; column < s.out_width; ++column) {
        for (int32_t at = 0; at < s.groups * blocks; ++at) {
          const int32_t group = at / blocks;
          const int32_t first = at % blocks * 4;
          float sums[4] = {bias[at * 4], bias[at * 4 + 1], bias[at * 4 + 2], bias[at * 4 + 3]};
          gather_pixel(s, sums, x + group * s.inputs, weights + at * block_size, row, column);
          const int32_t count = smaller(4, s.outputs - first);
          for (int32_t i = 0; i < count; ++i) {
            const float added = residual != nullptr ? *residual++ : 0.0f;
            *out++ = clamped(sums[i] + added, s.low, s.high);
          }
        }
      }
    }
    x += s.in_height * s.in_width * s.groups * s.inputs;
  }
}

template <class G>
inline void transposed_convolution(const G& g, float* out, const float* x, const float* weights, const float* bias,
                                   const float* residual) {
  transposed(
      {g.batch, g.in_height, g.in_width, g.out_height, g.out_width, g.groups, g.inputs, g.outputs, g.kernel_height,
       g.kernel_width, g.stride_y, g.stride_x, g.pad_y, g.pad_x, g.dilation_y, g.dilation_x, g.low, g.high},
      out, x, weights, bias, residual);
}

}  // namespace et
