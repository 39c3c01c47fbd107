// Depthwise convolution over channels-last rows: every output channel sees one input channel.
#pragma once

#include <stdint.h>

#include "convolution/convolution.h"

namespace et {

// One output row, (out_width, channels * multiplier). Weights are packed in blocks of kLanes output channels,
// [tap][kLanes], the last blocks in fours. Output channel o reads input channel o / multiplier; shape.inputs is 1,
// shape.outputs is the multiplier.
template <int32_t kLanes>
__attribute__((noinline)) void depthwise_row(const ConvolutionShape& shape, float* out, const float* const* rows,
                                             const float* weight, const float* bias, const float* residual) {
  const int32_t channels = shape.groups;
  const int32_t outputs = channels * shape.outputs;
  const int32_t elements = shape.kernel_rows * shape.kernel_width;
  for (int32_t channel = 0; channel < outputs; ++channel) {
    const int32_t first = channel / kLanes * kLanes;
    const int32_t lanes = outputs - first >= kLanes ? kLanes : 4;
    const int32_t lane = (channel - first) % lanes;
    const float* weights = weight + (channel - lane) * elements + lane;
    for (int32_t position = 0; position < shape.out_width; ++position) {
      const Span span = clipped(shape, position);
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

template <class Core, class G>
inline void depthwise(const G& g, float* out, const float* const* rows, const float* weight, const float* bias,
                      const float* residual) {
  depthwise_row<Core::kLanes>(convolution_shape(g), out, rows, weight, bias, residual);
}

}  // namespace et
