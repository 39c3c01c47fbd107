// Convolution over channels-last rows: (h, w, c) floats, any stride, padding, dilation and number of groups.
#pragma once

#include <stdint.h>

#include "convolution/strip.h"
#include "et/taps.h"

namespace et {

// A layer as `convolution_row` sees it; the vertical side belongs to the caller. [inner_begin, inner_end) are the
// output positions whose window lies inside the row.
struct ConvolutionShape {
  int32_t in_width, out_width, groups, inputs, outputs;  // inputs, outputs: channels of each group
  int32_t kernel_rows, kernel_width, stride, pad, dilation, inner_begin, inner_end;
  float low, high;
};

template <class G>
inline ConvolutionShape convolution_shape(const G& g) {
  return {g.in_width, g.out_width, g.groups,   g.inputs,      g.outputs,   g.kernel_rows, g.kernel_width,
          g.stride,   g.pad,       g.dilation, g.inner_begin, g.inner_end, g.low,         g.high};
}

// Output positions [begin, end) of one group; all of them see the taps [first_tap, last_tap) of the window.
struct Span {
  int32_t begin, end, first_tap, last_tap;
};

// One output position with the taps of its window that lie inside the row.
inline Span clipped(const ConvolutionShape& shape, int32_t position) {
  const Taps taps =
      taps_inside(position * shape.stride - shape.pad, shape.in_width, shape.kernel_width, shape.dilation);
  return {position, position + 1, taps.first, taps.last};
}

// Calls body(span) for the positions of a row: one by one at the edges, all at once inside.
template <class Body>
inline void each_span(const ConvolutionShape& shape, const Body& body) {
  for (int32_t position = 0; position < shape.out_width; ++position) {
    if (position == shape.inner_begin && shape.inner_end > position) {
      body(Span{position, shape.inner_end, 0, shape.kernel_width});
      position = shape.inner_end - 1;
    } else {
      body(clipped(shape, position));
    }
  }
}

// The positions of a span, of one group from its first output channel on; without weights.
inline __attribute__((always_inline)) Strip strip_of(const ConvolutionShape& shape, const Span& span, int32_t group,
                                                     float* out, const float* const* rows, const float* residual) {
  const int32_t in_channels = shape.groups * shape.inputs;
  const int32_t out_channels = shape.groups * shape.outputs;
  const bool merged = shape.groups == 1 && shape.dilation == 1;  // neighbouring taps are neighbours in memory
  const int32_t taps = span.last_tap - span.first_tap;
  const int32_t left = span.begin * shape.stride - shape.pad + span.first_tap * shape.dilation;
  const int32_t at = span.begin * out_channels + group * shape.outputs;
  Strip strip;
  strip.rows = rows;
  strip.kernel_rows = taps > 0 ? shape.kernel_rows : 0;
  strip.offset = left * in_channels + group * shape.inputs;
  strip.step = shape.stride * in_channels;
  strip.positions = span.end - span.begin;
  strip.taps = merged ? 1 : taps;
  strip.tap_step = shape.dilation * in_channels;
  strip.length = merged ? taps * shape.inputs : shape.inputs;
  strip.out = out + at;
  strip.out_step = out_channels;
  strip.residual = residual == nullptr ? nullptr : residual + at;
  strip.low = shape.low;
  strip.high = shape.high;
  return strip;
}

// One output row, (out_width, groups * outputs).
template <class Core>
__attribute__((noinline)) void convolution_row(const ConvolutionShape& shape, float* out, const float* const* rows,
                                               const float* weight, const float* bias, const float* residual) {
  const int32_t elements = shape.kernel_rows * shape.kernel_width * shape.inputs;
  const int32_t padded = (shape.outputs + 3) / 4 * 4;
  each_span(shape, [&](const Span& span) {
    const int32_t taps = span.last_tap - span.first_tap;
    for (int32_t group = 0; group < shape.groups; ++group) {
      each_block<Core>(strip_of(shape, span, group, out, rows, residual),
                       {weight + group * padded * elements, bias + group * padded * Core::kBiasWords, shape.outputs,
                        elements, span.first_tap * shape.inputs, (shape.kernel_width - taps) * shape.inputs});
    }
  });
}

template <class Core, class G>
inline void convolution(const G& g, float* out, const float* const* rows, const float* weight, const float* bias,
                        const float* residual) {
  convolution_row<Core>(convolution_shape(g), out, rows, weight, bias, residual);
}

// A 1x1 convolution of stride 1, or a linear layer: (positions, inputs) -> (positions, outputs).
template <class Core>
__attribute__((noinline)) void pointwise_strip(int32_t positions, int32_t inputs, int32_t outputs, float low,
                                               float high, float* out, const float* x, const float* weight,
                                               const float* bias, const float* residual) {
  Strip strip;
  strip.rows = &x;
  strip.kernel_rows = 1;
  strip.offset = 0;
  strip.step = inputs;
  strip.positions = positions;
  strip.taps = 1;
  strip.tap_step = 0;
  strip.length = inputs;
  strip.out = out;
  strip.out_step = outputs;
  strip.residual = residual;
  strip.low = low;
  strip.high = high;
  each_block<Core>(strip, {weight, bias, outputs, inputs, 0, 0});
}

template <class Core, class G>
inline void pointwise(const G& g, float* out, const float* x, const float* weight, const float* bias,
                      const float* residual) {
  pointwise_strip<Core>(g.positions, g.inputs, g.outputs, g.low, g.high, out, x, weight, bias, residual);
}

// The run `row` of `run` positions each, or what is left of them.
template <class Core, class G>
inline void pointwise_run(const G& g, float* out, const float* const* rows, int32_t row, const float* weight,
                          const float* bias, const float* residual) {
  const int32_t positions = smaller(g.run, g.positions - row * g.run);
  pointwise_strip<Core>(positions, g.inputs, g.outputs, g.low, g.high, out, rows[0], weight, bias, residual);
}

}  // namespace et
