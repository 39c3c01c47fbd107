// Transposed convolution over channels-last rows, as a gather: every result is the sum of the inputs that reach it.
#pragma once

#include <stdint.h>

#include "convolution/convolution.h"

namespace et {

// A layer as `transposed_row` sees it. Outputs at distances of the stride make a phase: they see the same taps, `back`
// inputs from each other, so that each phase of a row is a convolution of stride 1 with weights of its own. Of phase y
// count_y[y] of the window's rows are seen, and weights_y[y] of a channel's weights lie before its own, which are those
// of (y, 0), (y, 1), ...; of phase x count_x[x] columns, whose first one lies at left[x] for the phase's first output.
struct TransposedShape {
  int32_t in_width, out_width, groups, inputs, outputs;  // inputs, outputs: channels of each group
  int32_t window_rows, stride_y, stride_x, back, elements;
  const int32_t* count_y;
  const int32_t* weights_y;
  const int32_t* count_x;
  const int32_t* left;
  float low, high;
};

template <class G>
inline TransposedShape transposed_shape(const G& g) {
  return {g.in_width, g.out_width, g.groups,  g.inputs,    g.outputs, g.window_rows, g.stride_y, g.stride_x,
          g.back,     g.elements,  g.count_y, g.weights_y, g.count_x, g.left,        g.low,      g.high};
}

// Phase x of a row, of whose window `seen` rows are seen.
inline ConvolutionShape phase_of(const TransposedShape& shape, int32_t seen, int32_t x) {
  const int32_t positions = (shape.out_width - x + shape.stride_x - 1) / shape.stride_x;
  const int32_t left = shape.left[x];
  const int32_t taps = shape.count_x[x];
  const int32_t begin = smaller(larger(-left, 0), positions);
  const int32_t end = smaller(larger(shape.in_width - left - (taps - 1) * shape.back, begin), positions);
  return {shape.in_width, positions,  shape.groups, shape.inputs, shape.outputs, seen,      taps, 1,
          -left,          shape.back, begin,        end,          shape.low,     shape.high};
}

// Where the results of a phase go, and what is added to them.
struct PhaseOut {
  float* out;
  const float* residual;
};

// The positions of a span of a phase, of one group.
template <class Core>
__attribute__((noinline)) void transposed_strip(const TransposedShape& shape, const ConvolutionShape& phase,
                                                const Span& span, int32_t group, const PhaseOut& to,
                                                const float* const* rows, const Weights& weights) {
  const int32_t in_channels = shape.groups * shape.inputs;
  const bool merged = shape.groups == 1 && shape.back == 1;  // neighbouring taps are neighbours in memory
  const int32_t taps = span.last_tap - span.first_tap;
  Strip strip;
  strip.rows = rows;
  strip.kernel_rows = taps > 0 ? phase.kernel_rows : 0;
  strip.offset = (span.begin - phase.pad + span.first_tap * shape.back) * in_channels + group * shape.inputs;
  strip.step = in_channels;
  strip.positions = span.end - span.begin;
  strip.taps = merged ? 1 : taps;
  strip.tap_step = shape.back * in_channels;
  strip.length = merged ? taps * shape.inputs : shape.inputs;
  strip.out_step = shape.stride_x * shape.groups * shape.outputs;
  const int32_t at = span.begin * strip.out_step + group * shape.outputs;
  strip.out = to.out + at;
  strip.residual = to.residual == nullptr ? nullptr : to.residual + at;
  strip.low = shape.low;
  strip.high = shape.high;
  each_block<Core>(strip, weights);
}

// Of all groups. others: weights of a channel that lie before the phase's.
template <class Core>
__attribute__((noinline)) void transposed_span(const TransposedShape& shape, const ConvolutionShape& phase,
                                               const Span& span, const PhaseOut& to, const float* const* rows,
                                               const float* weight, int32_t others, const float* bias) {
  const int32_t padded = (shape.outputs + 3) / 4 * 4;
  Weights weights = {weight,
                     bias,
                     shape.outputs,
                     shape.elements,
                     others + span.first_tap * shape.inputs,
                     (phase.kernel_width - span.last_tap + span.first_tap) * shape.inputs};
  for (int32_t group = 0; group < shape.groups; ++group) {
    transposed_strip<Core>(shape, phase, span, group, to, rows, weights);
    weights.data += padded * shape.elements;
    weights.bias += padded * Core::kBiasWords;
  }
}

// Depthwise: channels [begin, end) of a span, one result after the other.
template <class Core>
__attribute__((noinline)) void transposed_channels(const TransposedShape& shape, const ConvolutionShape& phase,
                                                   const Span& span, int32_t begin, int32_t end, const PhaseOut& to,
                                                   const float* const* rows, const float* weight, int32_t others,
                                                   const float* bias) {
  constexpr int32_t kLanes = Core::kDepthwiseLanes;
  const int32_t channels = shape.groups;
  for (int32_t channel = begin; channel < end; ++channel) {
    const int32_t lanes = channels - channel / kLanes * kLanes >= kLanes ? kLanes : 4;
    const int32_t block = channel / lanes * lanes;
    const float* const weights = weight + block * shape.elements + others * lanes + channel - block;
    for (int32_t position = span.begin; position < span.end; ++position) {
      float sum = bias[block * Core::kBiasWords + channel - block];
      for (int32_t y = 0; y < phase.kernel_rows; ++y) {
        const float* const x = rows[y] + (position - phase.pad) * channels + channel;
        for (int32_t tap = span.first_tap; tap < span.last_tap; ++tap) {
          sum += x[tap * shape.back * channels] * weights[(y * phase.kernel_width + tap) * lanes];
        }
      }
      const int32_t at = position * shape.stride_x * channels + channel;
      sum += to.residual == nullptr ? 0.0f : to.residual[at];
      to.out[at] = clamped(sum, shape.low, shape.high);
    }
  }
}

// The positions of a span of a phase: channels in blocks, as far as there are whole ones.
template <class Core>
__attribute__((noinline)) void transposed_depthwise_span(const TransposedShape& shape, const ConvolutionShape& phase,
                                                         const Span& span, const PhaseOut& to, const float* const* rows,
                                                         const float* weight, int32_t others, const float* bias) {
  constexpr int32_t kLanes = Core::kDepthwiseLanes;
  const int32_t channels = shape.groups;
  const int32_t taps = span.last_tap - span.first_tap;
  const int32_t in_blocks = taps * phase.kernel_rows > 0 ? channels / kLanes * kLanes : 0;
  Strip strip;
  strip.rows = rows;
  strip.kernel_rows = phase.kernel_rows;
  strip.step = channels;
  strip.positions = span.end - span.begin;
  strip.taps = taps;
  strip.tap_step = shape.back * channels;
  strip.weight_skip = (phase.kernel_width - taps) * kLanes;
  strip.out_step = shape.stride_x * channels;
  strip.channels = kLanes;
  strip.low = shape.low;
  strip.high = shape.high;
  strip.rectify = is_rectify(shape.low, shape.high);
  for (int32_t channel = 0; channel < in_blocks; channel += kLanes) {
    const int32_t at = span.begin * strip.out_step + channel;
    strip.offset = (span.begin - phase.pad + span.first_tap * shape.back) * channels + channel;
    strip.weight = weight + channel * shape.elements + (others + span.first_tap) * kLanes;
    strip.bias = bias + channel * Core::kBiasWords;
    strip.out = to.out + at;
    strip.residual = to.residual == nullptr ? nullptr : to.residual + at;
    Core::depthwise(strip);
  }
  transposed_channels<Core>(shape, phase, span, in_blocks, channels, to, rows, weight, others, bias);
}

// Makes the positions of a span of a phase.
using MakeSpan = void (*)(const TransposedShape& shape, const ConvolutionShape& phase, const Span& span,
                          const PhaseOut& to, const float* const* rows, const float* weight, int32_t others,
                          const float* bias);

// Calls body(phase, span, to, rows, others) for the spans of the row-th row of an image, phase by phase, with the rows
// that it sees, the last ones of `rows`.
template <class Body>
inline void each_phase(const TransposedShape& shape, float* out, const float* const* rows, int32_t row,
                       const float* residual, const Body& body) {
  const int32_t y = row % shape.stride_y;
  const int32_t seen = shape.count_y[y];
  const int32_t pixel = shape.groups * shape.outputs;
  int32_t others = shape.weights_y[y];
  for (int32_t x = 0; x < shape.stride_x; ++x) {
    const ConvolutionShape phase = phase_of(shape, seen, x);
    const PhaseOut to = {out + x * pixel, residual == nullptr ? nullptr : residual + x * pixel};
    each_span(phase, [&](const Span& span) { body(phase, span, to, rows + shape.window_rows - seen, others); });
    others += seen * phase.kernel_width * shape.inputs;
  }
}

// One output row, (out_width, groups * outputs).
template <MakeSpan kSpan>
__attribute__((noinline)) void transposed_row(const TransposedShape& shape, float* out, const float* const* rows,
                                              int32_t row, const float* weight, const float* bias,
                                              const float* residual) {
  each_phase(shape, out, rows, row, residual,
             [&](const ConvolutionShape& phase, const Span& span, const PhaseOut& to, const float* const* seen,
                 int32_t others) { kSpan(shape, phase, span, to, seen, weight, others, bias); });
}

template <class Core, class G>
inline void transposed_convolution(const G& g, float* out, const float* const* rows, int32_t row, const float* weight,
                                   const float* bias, const float* residual) {
  transposed_row<transposed_span<Core>>(transposed_shape(g), out, rows, row, weight, bias, residual);
}

// Every group has one input and one output.
template <class Core, class G>
inline void transposed_depthwise(const G& g, float* out, const float* const* rows, int32_t row, const float* weight,
                                 const float* bias, const float* residual) {
  const typename Core::Scope scope;
  transposed_row<transposed_depthwise_span<Core>>(transposed_shape(g), out, rows, row, weight, bias, residual);
}

}  // namespace et
