// Convolutions with weights in few bits: those of some output channels become floats in scratch, and the float kernels
// read them there for all positions of some rows, so that decoding costs little beside the products.
//
// Weights are packed as the float kernels want them (kernels/convolution/packing.py), scales and zero points likewise,
// each as one element of a row for `scaled` weights. Weights are those of few_bits.h, without padding.
#pragma once

#include <stdint.h>

#include "convolution/convolution.h"
#include "convolution/depthwise.h"
#include "convolution/transposed.h"
#include "few_bits/few_bits.h"

namespace et {

// Rows of `elements` weights, one for each output channel. zero: what stands for 0 where no zero points are.
struct FewRows {
  const uint8_t* weight;
  const float* scales;
  const int8_t* zero_points;
  int32_t elements, scaled, zero;
};

// The block of `lanes` rows from the first-th on, as floats.
template <class Stored>
__attribute__((noinline)) void decode(const FewRows& rows, int32_t first, int32_t lanes, float* to) {
  constexpr int32_t kBytesOfFour = Stored::kBytesOfEight / 2;
  for (int32_t lane = 0; lane < lanes; lane += 4) {
    const uint8_t* four = rows.weight + (first / 4 * rows.elements + lane / 4) * kBytesOfFour;
    float* out = to + lane;
    int32_t factor = first * (rows.elements / rows.scaled) + lane;
    for (int32_t done = 0; done < rows.elements; done += rows.scaled) {
      float scale[4];
      int32_t zero[4];
#pragma GCC unroll 4
      for (int32_t c = 0; c < 4; ++c) {
        scale[c] = rows.scales == nullptr ? 1.0f : rows.scales[factor + c];
        zero[c] = rows.zero + (rows.zero_points == nullptr ? 0 : rows.zero_points[factor + c]);
      }
      for (int32_t k = 0; k < rows.scaled; ++k) {
#pragma GCC unroll 4
        for (int32_t c = 0; c < 4; ++c) {
          out[c] = Stored::at(four, c, zero[c]) * scale[c];
        }
        four += lanes / 4 * kBytesOfFour;
        out += lanes;
      }
      factor += lanes;
    }
  }
}

// Calls body(group, channel, channels, first) for each block of output channels in turn: `channel` is its first one in
// its group, `first` the place of that among all rows. `scratch` holds the block's weights then.
template <class Core, class Stored, class Body>
inline void each_decoded(const FewRows& rows, int32_t groups, int32_t outputs, float* scratch, const Body& body) {
  int32_t first = 0;
  for (int32_t group = 0; group < groups; ++group) {
    for (int32_t channel = 0; channel < outputs;) {
      const int32_t lanes = outputs - channel >= Core::kLanes ? Core::kLanes : 4;
      decode<Stored>(rows, first, lanes, scratch);
      body(group, channel, smaller(outputs - channel, lanes), first);
      channel += lanes;
      first += lanes;
    }
  }
}

// All of a depthwise layer's: they are few.
template <class Core, class Stored>
inline void decode_all(const FewRows& rows, int32_t channels, float* scratch) {
  for (int32_t first = 0; first < channels;) {
    const int32_t lanes = channels - first >= Core::kDepthwiseLanes ? Core::kDepthwiseLanes : 4;
    decode<Stored>(rows, first, lanes, scratch + first * rows.elements);
    first += lanes;
  }
}

// The G of these kernels is that of the float kernel that their name ends with, and has scaled and zero too; of the
// first two also row_stride: `count` rows are made, whose windows begin row_stride input rows from each other.
template <class Core, class Stored, class G>
__attribute__((noinline)) void few_bits_convolution(const G& g, float* out, const float* const* rows, int32_t count,
                                                    const uint8_t* weight, const float* scales,
                                                    const int8_t* zero_points, const float* bias, const float* residual,
                                                    float* scratch) {
  const ConvolutionShape shape = convolution_shape(g);
  const int32_t elements = shape.kernel_rows * shape.kernel_width * shape.inputs;
  const FewRows stored = {weight, scales, zero_points, elements, g.scaled, g.zero};
  each_decoded<Core, Stored>(stored, shape.groups, shape.outputs, scratch,
                             [&](int32_t group, int32_t channel, int32_t channels, int32_t first) {
                               for (int32_t row = 0; row < count; ++row) {
                                 const int32_t at = row * shape.out_width * shape.groups * shape.outputs + channel;
                                 each_span(shape, [&](const Span& span) {
                                   const int32_t taps = span.last_tap - span.first_tap;
                                   each_block<Core>(
                                       strip_of(shape, span, group, out + at, rows + row * g.row_stride,
                                                residual == nullptr ? nullptr : residual + at),
                                       {scratch, bias + first, channels, elements, span.first_tap * shape.inputs,
                                        (shape.kernel_width - taps) * shape.inputs});
                                 });
                               }
                             });
}

// All positions of a 1x1 convolution, or of a linear layer, as those of one row.
template <class Core, class Stored, class G>
inline void few_bits_pointwise(const G& g, float* out, const float* x, const uint8_t* weight, const float* scales,
                               const int8_t* zero_points, const float* bias, const float* residual, float* scratch) {
  few_bits_convolution<Core, Stored>(g, out, &x, 1, weight, scales, zero_points, bias, residual, scratch);
}

template <class Core, class Stored, class G>
__attribute__((noinline)) void few_bits_depthwise(const G& g, float* out, const float* const* rows, int32_t count,
                                                  const uint8_t* weight, const float* scales, const int8_t* zero_points,
                                                  const float* bias, const float* residual, float* scratch) {
  const ConvolutionShape shape = convolution_shape(g);
  const int32_t elements = shape.kernel_rows * shape.kernel_width;
  const int32_t channels = shape.groups * shape.outputs;
  decode_all<Core, Stored>({weight, scales, zero_points, elements, g.scaled, g.zero}, channels, scratch);
  for (int32_t row = 0; row < count; ++row) {
    const int32_t at = row * shape.out_width * channels;
    depthwise_row<Core>(shape, out + at, rows + row * g.row_stride, scratch, bias,
                        residual == nullptr ? nullptr : residual + at);
  }
}

template <class Core, class Stored, class G>
__attribute__((noinline)) void few_bits_transposed_convolution(const G& g, float* out, const float* const* rows,
                                                               int32_t row, const uint8_t* weight, const float* scales,
                                                               const int8_t* zero_points, const float* bias,
                                                               const float* residual, float* scratch) {
  const TransposedShape shape = transposed_shape(g);
  const FewRows stored = {weight, scales, zero_points, shape.elements, g.scaled, g.zero};
  each_decoded<Core, Stored>(
      stored, shape.groups, shape.outputs, scratch,
      [&](int32_t group, int32_t channel, int32_t channels, int32_t first) {
        each_phase(shape, out + channel, rows, row, residual == nullptr ? nullptr : residual + channel,
                   [&](const ConvolutionShape& phase, const Span& span, const PhaseOut& to, const float* const* seen,
                       int32_t others) {
                     transposed_strip<Core>(
                         shape, phase, span, group, to, seen,
                         {scratch, bias + first, channels, shape.elements, others + span.first_tap * shape.inputs,
                          (phase.kernel_width - span.last_tap + span.first_tap) * shape.inputs});
                   });
      });
}

// Every group has one input and one output.
template <class Core, class Stored, class G>
__attribute__((noinline)) void few_bits_transposed_depthwise(const G& g, float* out, const float* const* rows,
                                                             int32_t row, const uint8_t* weight, const float* scales,
                                                             const int8_t* zero_points, const float* bias,
                                                             const float* residual, float* scratch) {
  const TransposedShape shape = transposed_shape(g);
  decode_all<Core, Stored>({weight, scales, zero_points, shape.elements, g.scaled, g.zero}, shape.groups, scratch);
  const typename Core::Scope scope;
  transposed_row<transposed_depthwise_span<Core>>(shape, out, rows, row, scratch, bias, residual);
}

}  // namespace et
