// Depthwise convolution over channels-last rows: every output channel sees one input channel.
#pragma once

#include <stdint.h>

#include "convolution/convolution.h"

namespace et {

// Output positions of `span` for output channels [begin, end), one result after the other. Output channel o reads input
// channel o / shape.outputs. Weights are packed in blocks of kLanes output channels, [tap][kLanes], the last ones in
// fours.
template <int32_t kLanes>
inline void depthwise_plain(const ConvolutionShape& shape, const Span& span, int32_t begin, int32_t end, float* out,
                            const float* const* rows, const float* weight, const float* bias, const float* residual) {
  const int32_t channels = shape.groups;
  const int32_t outputs = channels * shape.outputs;
  const int32_t elements = shape.kernel_rows * shape.kernel_width;
  for (int32_t channel = begin; channel < end; ++channel) {
    const int32_t first = channel / kLanes * kLanes;
    const int32_t lanes = outputs - first >= kLanes ? kLanes : 4;
    const int32_t lane = (channel - first) % lanes;
    const float* weights = weight + (channel - lane) * elements + lane;
    for (int32_t position = span.begin; position < span.end; ++position) {
      const int32_t left = position * shape.stride - shape.pad;
      float sum = bias[channel];
      for (int32_t y = 0; y < shape.kernel_rows; ++y) {
        const float* x = rows[y] + channel / shape.outputs;
        for (int32_t tap = span.first_tap; tap < span.last_tap; ++tap) {
          sum += x[(left + tap * shape.dilation) * channels] * weights[(y * shape.kernel_width + tap) * lanes];
        }
      }
      const int32_t at = position * outputs + channel;
      sum += residual == nullptr ? 0.0f : residual[at];
      out[at] = clamped(sum, shape.low, shape.high);
    }
  }
}

// One output row, (out_width, channels * multiplier): in blocks where every channel has one result.
template <class Core>
__attribute__((noinline)) void depthwise_row(const ConvolutionShape& shape, float* out, const float* const* rows,
                                             const float* weight, const float* bias, const float* residual) {
  constexpr int32_t kLanes = Core::kDepthwiseLanes;
  const int32_t channels = shape.groups;
  const int32_t elements = shape.kernel_rows * shape.kernel_width;
  const typename Core::Scope scope;
  const int32_t in_blocks = shape.outputs == 1 ? channels / kLanes * kLanes : 0;
  each_span(shape, [&](const Span& span) {
    Strip strip;
    strip.rows = rows;
    strip.kernel_rows = shape.kernel_rows;
    strip.step = shape.stride * channels;
    strip.positions = span.end - span.begin;
    strip.taps = span.last_tap - span.first_tap;
    strip.tap_step = shape.dilation * channels;
    strip.weight_skip = (shape.kernel_width - strip.taps) * kLanes;
    strip.out_step = channels;
    strip.channels = kLanes;
    strip.low = shape.low;
    strip.high = shape.high;
    strip.rectify = is_rectify(shape.low, shape.high);
    const int32_t left = span.begin * shape.stride - shape.pad + span.first_tap * shape.dilation;
    for (int32_t channel = 0; channel < in_blocks; channel += kLanes) {
      const int32_t at = span.begin * channels + channel;
      strip.offset = left * channels + channel;
      strip.weight = weight + channel * elements + span.first_tap * kLanes;
      strip.bias = bias + channel * Core::kBiasWords;
      strip.out = out + at;
      strip.residual = residual == nullptr ? nullptr : residual + at;
      Core::depthwise(strip);
    }
    depthwise_plain<kLanes>(shape, span, in_blocks, channels * shape.outputs, out, rows, weight, bias, residual);
  });
}

template <class Core, class G>
inline void depthwise(const G& g, float* out, const float* const* rows, const float* weight, const float* bias,
                      const float* residual) {
  depthwise_row<Core>(convolution_shape(g), out, rows, weight, bias, residual);
}

// The common case by itself: 3x3, stride 1, one column of padding on each side, channels a multiple of 4, no residual.
struct Depthwise3x3 {
  int32_t width, channels;
  float low, high;
};

// kChannels channels of one output row. Each column of inputs is read once and goes into three sums: those of the
// results to its left, in its middle and to its right. `weight` is [3][3][4] followed by the bias [4].
template <int32_t kChannels, bool kHigh>
inline __attribute__((always_inline)) void depthwise_columns(const Depthwise3x3& shape, float* out,
                                                             const float* const* rows, const float* weight) {
  float weights[9][kChannels];
#pragma GCC unroll 9
  for (int32_t tap = 0; tap < 9; ++tap) {
#pragma GCC unroll 4
    for (int32_t c = 0; c < kChannels; ++c) {
      weights[tap][c] = weight[4 * tap + c];
    }
  }
  const float* const bias = weight + 36;
  const float low = shape.low;  // copies: as far as the compiler knows, a store to `out` could change the shape
  const float high = shape.high;
  const int32_t step = shape.channels;
  const float* top = rows[0];
  const float* middle = rows[1];
  const float* bottom = rows[2];
  const auto store = [&](const float (&sum)[kChannels]) {
#pragma GCC unroll 4
    for (int32_t c = 0; c < kChannels; ++c) {
      out[c] = kHigh ? clamped(sum[c], low, high) : (sum[c] < low ? low : sum[c]);
    }
    out += step;
  };
  float left[kChannels];
  float centre[kChannels];
#pragma GCC unroll 4
  for (int32_t c = 0; c < kChannels; ++c) {
    left[c] = bias[c] + top[c] * weights[1][c] + middle[c] * weights[4][c] + bottom[c] * weights[7][c];
    centre[c] = bias[c] + top[c] * weights[0][c] + middle[c] * weights[3][c] + bottom[c] * weights[6][c];
  }
#pragma GCC unroll 3
  for (int32_t column = 1; column < shape.width; ++column) {
    top += step;
    middle += step;
    bottom += step;
    float result[kChannels];
#pragma GCC unroll 4
    for (int32_t c = 0; c < kChannels; ++c) {
      const float x0 = top[c];
      const float x1 = middle[c];
      const float x2 = bottom[c];
      result[c] = left[c] + x0 * weights[2][c] + x1 * weights[5][c] + x2 * weights[8][c];
      left[c] = centre[c] + x0 * weights[1][c] + x1 * weights[4][c] + x2 * weights[7][c];
      centre[c] = bias[c] + x0 * weights[0][c] + x1 * weights[3][c] + x2 * weights[6][c];
    }
    store(result);
  }
  store(left);
}

template <bool kHigh>
__attribute__((noinline)) void depthwise_3x3_pairs(const Depthwise3x3& shape, float* out, const float* const* rows,
                                                   const float* weight) {
  for (int32_t channel = 0; channel < shape.channels; channel += 2) {
    const float* const shifted[3] = {rows[0] + channel, rows[1] + channel, rows[2] + channel};
    depthwise_columns<2, kHigh>(shape, out + channel, shifted, weight + channel / 4 * 40 + channel % 4);
  }
}

template <class Core>
inline void depthwise_3x3_row(Core, const Depthwise3x3& shape, float* out, const float* const* rows,
                              const float* weight) {
  if (shape.high == __builtin_inff()) {
    depthwise_3x3_pairs<false>(shape, out, rows, weight);
  } else {
    depthwise_3x3_pairs<true>(shape, out, rows, weight);
  }
}

template <class Core, class G>
inline void depthwise_3x3(const G& g, float* out, const float* const* rows, const float* weight) {
  depthwise_3x3_row(Core(), {g.width, g.channels, g.low, g.high}, out, rows, weight);
}

}  // namespace et
