// int8 transposed convolution over channels-last rows: each output position with the taps that it sees.
#pragma once

#include <stdint.h>

#include "convolution/quantized_dense.h"

namespace et {

// A layer as its rows see it. Outputs at distances of the stride make a phase: they see the same taps, `back` inputs
// from each other, so that each phase of a row is a convolution of stride 1. Of phase y count_y[y] of the window's rows
// are seen; of phase x count_x[x] columns, the first at left[x] for the phase's first output; the packed weights of
// (y, x) begin at byte offset[y * stride_x + x].
struct Transposed8 {
  int32_t in_width, out_width, inputs, outputs, input_zero, window_rows, stride_y, stride_x, back;
  const int32_t* count_y;
  const int32_t* count_x;
  const int32_t* left;
  const int32_t* offset;
  Store8 store;
};

template <class G>
constexpr Transposed8 transposed8_of(const G& g) {
  return {g.in_width, g.out_width, g.inputs,  g.outputs, g.input_zero, g.window_rows, g.stride_y,
          g.stride_x, g.back,      g.count_y, g.count_x, g.left,       g.offset,      {g.zero_point, g.low, g.high}};
}

// The description of a layer whose geometry is fixed, in flash.
template <class G>
struct FixedTransposed8 {
  static constexpr Transposed8 kLayer = transposed8_of(G{});
};

// Calls body(layer).
template <class G, class Body>
inline __attribute__((always_inline)) void with_transposed8(const G& g, const Body& body) {
  if constexpr (__is_empty(G)) {
    body(FixedTransposed8<G>::kLayer);
  } else {
    body(transposed8_of(g));
  }
}

// What all phases of a row share of which `seen` rows are seen.
inline Convolution8 phases8_of(const Transposed8& layer, int32_t seen) {
  Convolution8 phase;
  phase.in_width = layer.in_width;
  phase.groups = 1;
  phase.inputs = layer.inputs;
  phase.outputs = layer.outputs;
  phase.kernel_height = seen;
  phase.kernel_width = 0;
  phase.stride_x = 1;
  phase.dilation_x = layer.back;
  phase.input_zero = layer.input_zero;
  phase.merged = layer.back == 1 ? 1 : 0;
  phase.store = layer.store;
  return phase;
}

// The rest, of phase x.
inline void set_phase8(Convolution8& phase, const Transposed8& layer, int32_t x) {
  const int32_t positions = (layer.out_width - x + layer.stride_x - 1) / layer.stride_x;
  const int32_t left = layer.left[x];
  const int32_t taps = layer.count_x[x];
  const int32_t begin = smaller(larger(-left, 0), positions);
  phase.out_width = positions;
  phase.kernel_width = taps;
  phase.pad_x = -left;
  phase.inner_begin = begin;
  phase.inner_end = smaller(larger(layer.in_width - left - (taps - 1) * layer.back, begin), positions);
}

// One position of a phase. whole: its window lies inside the row.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void phase8_position(const Convolution8& phase, bool whole, int32_t x, int8_t* out,
                                               const int8_t* const* rows, const int8_t* packed, const int8_t* outside) {
  const int32_t taps = whole ? smaller(phase.kernel_width, 1) : phase.kernel_width;
  const auto at = [&](int32_t ky, int32_t kx) {
    const int32_t column = x - phase.pad_x + kx * phase.dilation_x;
    return column >= 0 && column < phase.in_width ? rows[ky] + column * phase.inputs : outside;
  };
  position8<kScale, Tile>(phase.store, phase.outputs, out, phase.kernel_height, taps,
                          whole ? phase.kernel_width * phase.inputs : phase.inputs, packed, at);
}

// Several positions of a phase at once, `step` bytes apart, with `taps` stretches of each row.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void phase8_tile(const Convolution8& phase, int32_t taps, int32_t x, int32_t step,
                                           int8_t* out, const int8_t* const* rows, const int8_t* packed,
                                           const int8_t* outside) {
  Seen8<Tile::kPositions> seen;
  seen.length = taps == phase.kernel_width ? phase.inputs : phase.kernel_width * phase.inputs;
  see(seen, phase, rows, outside, 0, x, taps);
  tile8<kScale, Tile>(phase.store, phase.outputs, out, step, seen, packed);
}

// The positions of a phase, `step` bytes apart.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void phase8(const Convolution8& phase, int32_t step, int8_t* out, const int8_t* const* rows,
                                      const int8_t* packed, const int8_t* outside) {
  constexpr int32_t kMany = Tile::kPositions;
  for (int32_t x = 0; x < phase.out_width;) {
    // all taps of a row are one stretch where the windows lie inside
    const bool whole = phase.merged != 0 && x >= phase.inner_begin;
    if constexpr (kMany > 1) {
      const int32_t taps = whole && x + kMany <= phase.inner_end ? smaller(phase.kernel_width, 1) : phase.kernel_width;
      const int32_t stretches = phase.kernel_height * taps;
      if (x + kMany <= phase.out_width && stretches > 0 && stretches <= kMostStretches) {
        phase8_tile<kScale, Tile>(phase, taps, x, step, out, rows, packed, outside);
        x += kMany;
        out += kMany * step;
        continue;
      }
    }
    phase8_position<kScale, Tile>(phase, whole && x < phase.inner_end, x, out, rows, packed, outside);
    ++x;
    out += step;
  }
}

// One output row, (out_width, outputs), the row-th of its image, which sees the last ones of `rows`. outside: `inputs`
// bytes of the input's zero point.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void transposed8_row(const Transposed8& layer, int8_t* out, const int8_t* const* rows,
                                               int32_t row, const int8_t* packed, const int8_t* outside) {
  const int32_t y = row % layer.stride_y;
  const int32_t seen = layer.count_y[y];
  const int32_t* const offset = layer.offset + y * layer.stride_x;
  Convolution8 phase = phases8_of(layer, seen);
  for (int32_t x = 0; x < layer.stride_x; ++x) {
    set_phase8(phase, layer, x);
    phase8<kScale, Tile>(phase, layer.stride_x * layer.outputs, out + x * layer.outputs,
                         rows + layer.window_rows - seen, packed + offset[x], outside);
  }
}

template <Scale8 kScale, class Tile, class G>
inline void quantized_transposed(const G& g, int8_t* out, const int8_t* const* rows, int32_t row, const int8_t* packed,
                                 const int8_t* outside) {
  with_transposed8(
      g, [&](const Transposed8& layer) { transposed8_row<kScale, Tile>(layer, out, rows, row, packed, outside); });
}

}  // namespace et
