// int8 transposed convolution on Armv7E-M with DSP instructions: outputs of one phase, which see the same taps, in
// pairs.
#pragma once

#include <stdint.h>

#include "convolution/quantized_dsp.h"
#include "convolution/quantized_transposed.h"

namespace et {

// The positions of a phase that sees any taps. run: as `pairs_of` gives it, with the weights.
template <Paired8 kPaired>
__attribute__((noinline)) void phase8_dsp(const Windows8& windows, Pairs8& run, int8_t* out,
                                          const int8_t* const* rows) {
  const Convolution8& phase = windows.layer;
  const int32_t step = run.out_next / 2;  // from one output to the next
  for (int32_t x = 0; x < phase.out_width;) {
    const int32_t inside = x >= phase.inner_begin ? (phase.inner_end - x) / 2 : 0;
    const bool by_rows = inside > 0 ? phase.merged != 0 : !windows.by_taps;
    const int32_t length = by_rows ? windows.stretches.bytes : phase.inputs;
    const int32_t taps = by_rows ? 1 : phase.kernel_width;
    const bool alone = x + 1 == phase.out_width;  // twice the same
    run.bytes = length & ~3;
    run.left = length & 3;
    run.skip = 2 * phase.inputs - length;
    run.table_end = windows.table + 2 * phase.kernel_height * taps;
    run.out_step = alone ? 0 : step;
    place(windows, 0, rows, x, 0, taps);
    if (inside > 0 || alone) {
      const int32_t apart = alone ? 0 : phase.inputs;
      for (const int8_t** at = windows.table; at != run.table_end; at += 2) {
        at[1] = at[0] + apart;
      }
    } else {
      place(windows, 1, rows, x + 1, 0, taps);
    }
    run.pairs = larger(inside, 1);
    run.out = out + x * step;
    run.out_end = run.out + (phase.outputs & ~3);
    pairs<kPaired>(run);
    x += 2 * run.pairs;
  }
}

// A phase that sees no taps: every output is the same, that of 4 weights of 0.
template <Paired8 kPaired>
__attribute__((noinline)) void same_outputs_dsp(const Convolution8& phase, Pairs8& run, int8_t* out) {
  const int32_t step = run.out_next / 2;     // from one output to the next
  run.table[0] = run.table[1] = run.packed;  // any bytes
  run.table_end = run.table + 2;
  run.columns_end = run.columns + 8;
  run.quads = run.columns;
  run.bytes = 4;
  run.left = 0;
  run.pairs = 1;
  run.out_step = 0;
  run.out = out;
  run.out_end = out + (phase.outputs & ~3);
  pairs<kPaired>(run);
  for (int32_t x = 1; x < phase.out_width; ++x) {
    WordBytes::copy(out + x * step, out, phase.outputs);
  }
}

// One output row, as `transposed8_row` makes it. scratch: 4 bytes for each of the longest column, `elements`; pairs of
// pointers, `stretches` of them; and where windows reach out of a row (`outside`) a tap or, where taps are no quads,
// two columns of bytes.
template <Paired8 kPaired>
__attribute__((noinline)) void transposed8_row_dsp(const Transposed8& layer, int32_t elements, int32_t stretches,
                                                   int32_t words, int32_t outside, int8_t* out,
                                                   const int8_t* const* rows, int32_t row, const int8_t* packed,
                                                   int32_t* scratch) {
  const int8_t** const table = reinterpret_cast<const int8_t**>(scratch + elements);
  int8_t* const aside = reinterpret_cast<int8_t*>(table + 2 * stretches);
  const int32_t y = row % layer.stride_y;
  const int32_t seen = layer.count_y[y];
  const int32_t* const offset = layer.offset + y * layer.stride_x;
  Convolution8 phase = phases8_of(layer, seen);
  Windows8 windows = {phase, Stretches8(phase), phase.merged == 0 || layer.inputs % 4 == 0, table, aside};
  Pairs8 run =
      pairs_of(layer.store, layer.outputs, layer.stride_x * layer.outputs, reinterpret_cast<int16_t*>(scratch), 0, 0);
  run.table = table;
  run.words = words;
  if (windows.by_taps && outside != 0) {
    WordBytes::fill(windows.aside, layer.input_zero, layer.inputs);
  }
  for (int32_t x = 0; x < layer.stride_x; ++x) {
    set_phase8(phase, layer, x);
    int8_t* const to = out + x * layer.outputs;
    run.packed = packed + offset[x];
    if (seen == 0 || phase.kernel_width == 0) {
      same_outputs_dsp<kPaired>(phase, run, to);
      continue;
    }
    windows.stretches = Stretches8(phase);
    phase.elements = windows.stretches.left_over + windows.stretches.count * windows.stretches.quads;
    run.columns_end = run.columns + 2 * phase.elements;
    run.quads = run.columns + 2 * windows.stretches.left_over;
    phase8_dsp<kPaired>(windows, run, to, rows + layer.window_rows - seen);
  }
  clamp_bytes(layer.store, out, layer.out_width * layer.outputs);
}

// G: as quantized_transposed wants it, and elements, stretches, words, outside.
template <Paired8 kPaired, class G>
inline void quantized_transposed_dsp(const G& g, int8_t* out, const int8_t* const* rows, int32_t row,
                                     const int8_t* packed, int32_t* scratch) {
  with_transposed8(g, [&](const Transposed8& layer) {
    transposed8_row_dsp<kPaired>(layer, g.elements, g.stretches, g.words, g.outside, out, rows, row, packed, scratch);
  });
}

}  // namespace et
