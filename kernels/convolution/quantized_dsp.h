// int8 convolution and linear layers on Armv7E-M with DSP instructions: pairs of windows, expanded straight from the
// image where they lie inside it.
#pragma once

#include <stdint.h>

#include "convolution/quantized_columns_dsp.h"
#include "convolution/quantized_dense.h"

namespace et {

// What all runs of a layer have in common; across: results of a position, of all groups.
inline Pairs8 pairs_of(const Store8& store, int32_t outputs, int32_t across, int16_t* columns, int32_t elements,
                       int32_t left_over) {
  Pairs8 run;
  run.columns = columns;
  run.columns_end = columns + 2 * elements;
  run.quads = columns + 2 * left_over;
  run.zero_point = store.zero_point;
  run.out_left = outputs & 3;
  run.out_step = across;
  run.out_next = 2 * across;
  run.out_skip = 2 * across - (outputs & ~3);
  return run;
}

// How the windows of a layer lie in its rows, and room for what must be put together.
struct Windows8 {
  const Convolution8& layer;
  Stretches8 stretches;
  bool by_taps;  // a row that reaches outside is made of taps, and of `aside` as those outside; else it is gathered
  const int8_t** table;
  int8_t* aside;
};

// Writes the stretches of the window at position x to every second entry of a table, `taps` of them for each of its
// rows, from byte `offset` of each pixel on. lane: 0, or 1 for the second window of a pair.
inline __attribute__((noinline)) void place(const Windows8& windows, int32_t lane, const int8_t* const* rows, int32_t x,
                                            int32_t offset, int32_t taps) {
  const Convolution8& layer = windows.layer;
  const int32_t pixel = layer.groups * layer.inputs;
  const int32_t left = x * layer.stride_x - layer.pad_x;
  const int8_t** table = windows.table + lane;
  if (windows.by_taps || (x >= layer.inner_begin && x < layer.inner_end)) {
    for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
      int32_t at = left;
      for (int32_t kx = 0; kx < taps; ++kx) {
        *table = at < 0 || at >= layer.in_width ? windows.aside : rows[ky] + at * pixel + offset;
        table += 2;
        at += layer.dilation_x;
      }
    }
    return;
  }
  const int32_t bytes = windows.stretches.bytes;
  const int32_t before = smaller(larger(-left, 0), layer.kernel_width) * layer.inputs;
  const int32_t after =
      smaller(larger(left + layer.kernel_width - layer.in_width, 0), layer.kernel_width) * layer.inputs;
  const Edge8 edge = {left * pixel + before, before, larger(bytes - before - after, 0), after, layer.input_zero,
                      layer.kernel_height};
  const int8_t* row = windows.aside + lane * layer.kernel_height * bytes;
  gather_rows(windows.aside + lane * layer.kernel_height * bytes, rows, &edge);
  for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
    *table = row;
    table += 2;
    row += bytes;
  }
}

// How many pairs of windows are made of one group of channels before the next one (_MOST_PAIRS in quantized_dense.py).
constexpr int32_t kMostPairs = 8;

// `count` rows, one after the other; rows: those of all their windows, stride_y from one to the next. Pairs go over the
// ends of rows. scratch: 4 bytes for each of a column, a pair of pointers for each stretch, and for windows that reach
// out of a row a tap or, where taps are no quads, two columns of bytes.
template <Paired8 kPaired>
__attribute__((noinline)) void convolution8_rows_dsp(const Convolution8& layer, int8_t* out, const int8_t* const* rows,
                                                     int32_t count, const int8_t* packed, int32_t* scratch) {
  const Stretches8 stretches(layer);
  const bool by_taps = layer.merged == 0 || layer.inputs % 4 == 0;
  const int8_t** const table = reinterpret_cast<const int8_t**>(scratch + layer.elements);
  int8_t* const aside = reinterpret_cast<int8_t*>(table + 2 * layer.kernel_height * (by_taps ? layer.kernel_width : 1));
  const Windows8 windows = {layer, stretches, by_taps, table, aside};
  if (by_taps && (layer.inner_begin > 0 || layer.inner_end < layer.out_width)) {
    WordBytes::fill(aside, layer.input_zero, layer.inputs);
  }
  const int32_t across = layer.groups * layer.outputs;
  Pairs8 run = pairs_of(layer.store, layer.outputs, across, reinterpret_cast<int16_t*>(scratch), layer.elements,
                        stretches.left_over);
  run.table = table;
  run.words = layer.words;
  int32_t x = 0;
  int8_t* to = out;
  int32_t positions = count * layer.out_width;
  while (positions > 0) {
    const int32_t inside = x >= layer.inner_begin ? (layer.inner_end - x) / 2 : 0;
    const bool by_rows = inside > 0 ? layer.merged != 0 : !by_taps;
    const int32_t length = by_rows ? stretches.bytes : layer.inputs;
    const int32_t taps = by_rows ? 1 : layer.kernel_width;
    run.bytes = length & ~3;
    run.left = length & 3;
    run.skip = 2 * layer.stride_x * layer.groups * layer.inputs - length;
    run.table_end = table + 2 * layer.kernel_height * taps;
    const int32_t done = inside <= 0 ? 1 : layer.groups > 1 ? smaller(inside, kMostPairs) : inside;
    const bool alone = positions == 1;  // twice the same
    run.out_step = alone ? 0 : across;
    const bool over = x + 1 == layer.out_width && !alone;
    const int32_t second = over ? 0 : alone ? x : x + 1;
    for (int32_t group = 0; group < layer.groups; ++group) {
      place(windows, 0, rows, x, group * layer.inputs, taps);
      place(windows, 1, over ? rows + layer.stride_y : rows, second, group * layer.inputs, taps);
      run.packed = packed + group * layer.group_bytes;
      run.out = to + group * layer.outputs;
      run.out_end = run.out + (layer.outputs & ~3);
      run.pairs = done;
      pairs<kPaired>(run);
    }
    positions -= 2 * done;
    to += 2 * done * across;
    for (x += 2 * done; x >= layer.out_width; x -= layer.out_width) {
      rows += layer.stride_y;
    }
  }
  clamp_bytes(layer.store, out, count * layer.out_width * across);
}

template <Paired8 kPaired, class G>
inline void quantized_convolution_dsp(const G& g, int8_t* out, const int8_t* const* rows, int32_t count,
                                      const int8_t* packed, int32_t* scratch) {
  if constexpr (__is_empty(G)) {
    convolution8_rows_dsp<kPaired>(Fixed8<G>::kLayer, out, rows, count, packed, scratch);
  } else {
    convolution8_rows_dsp<kPaired>(convolution8_of(g), out, rows, count, packed, scratch);
  }
}

// Rows copied with their padding: first a pointer to each.
inline __attribute__((noinline)) void copy_rows(int32_t* scratch, const int8_t* const* rows, const Edge8& edge) {
  const int8_t** const table = reinterpret_cast<const int8_t**>(scratch);
  int8_t* copy = reinterpret_cast<int8_t*>(table + edge.rows);
  gather_rows(copy, rows, &edge);
  for (int32_t k = 0; k < edge.rows; ++k) {
    table[k] = copy;
    copy += edge.before + edge.inside + edge.after;
  }
}

// The same where many windows reach out of narrow rows, by stretches that are no quads: the rows are copied with their
// padding, so that all windows lie inside. G: as above, for such rows; before, inside, after: what they are made of;
// copied: words of them all with their pointers, in front of the other scratch.
template <Paired8 kPaired, class G>
inline void quantized_convolution_padded_dsp(const G& g, int8_t* out, const int8_t* const* rows, int32_t count,
                                             const int8_t* packed, int32_t* scratch) {
  copy_rows(scratch, rows, {0, g.before, g.inside, g.after, g.input_zero, g.kernel_height + (count - 1) * g.stride_y});
  quantized_convolution_dsp<kPaired>(g, out, reinterpret_cast<const int8_t* const*>(scratch), count, packed,
                                     scratch + g.copied);
}

// One position of a linear layer or a 1x1 convolution. scratch: 2 bytes for each input, or 3 where inputs are no quads.
template <Paired8 kPaired>
__attribute__((noinline)) void position8_dsp(const Store8& store, int32_t inputs, int32_t outputs, int8_t* out,
                                             const int8_t* in, const int8_t* packed, int32_t* scratch) {
  if (inputs % 4 == 0) {
    column_dsp<kPaired>(store, inputs, outputs, out, in, reinterpret_cast<int16_t*>(scratch), packed);
    return;
  }
  int8_t* const column = reinterpret_cast<int8_t*>(scratch);
  arrange<WordBytes>(column, in, inputs);
  const int32_t elements = (inputs + 3) & ~3;
  column_dsp<kPaired>(store, elements, outputs, out, column, reinterpret_cast<int16_t*>(column + elements), packed);
}

// (positions, inputs) -> (positions, outputs), more than one position. words: inputs is a multiple of 4, and `in` a
// word's address. scratch: 4 bytes for each input, filled up to quads.
template <Paired8 kPaired>
__attribute__((noinline)) void pointwise8_dsp(const Store8& store, int32_t positions, int32_t inputs, int32_t outputs,
                                              int32_t words, int8_t* out, const int8_t* in, const int8_t* packed,
                                              int32_t* scratch) {
  const int32_t elements = (inputs + 3) & ~3;
  const int32_t whole = positions & ~1;
  const int8_t* table[2] = {in, in + inputs};
  int16_t* const columns = reinterpret_cast<int16_t*>(scratch);
  Pairs8 run = pairs_of(store, outputs, outputs, columns, elements, elements - (inputs & ~3));
  run.out = out;
  run.out_end = out + (outputs & ~3);
  run.packed = packed;
  run.pairs = whole / 2;
  run.table = table;
  run.table_end = table + 2;
  run.bytes = inputs & ~3;
  run.left = inputs & 3;
  run.skip = inputs;
  run.words = words;
  pairs<kPaired>(run);
  clamp_bytes(store, out, whole * outputs);
  if (whole < positions) {
    position8_dsp<kPaired>(store, inputs, outputs, out + whole * outputs, in + whole * inputs, packed, scratch);
  }
}

template <Paired8 kPaired, class G>
inline void quantized_pointwise_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int32_t* scratch) {
  const Store8 store = {g.zero_point, g.low, g.high};
  if (g.positions > 1) {  // known when compiled, so that a network of linear layers is without the core for pairs
    pointwise8_dsp<kPaired>(store, g.positions, g.inputs, g.outputs, g.words, out, in, packed, scratch);
  } else {
    position8_dsp<kPaired>(store, g.inputs, g.outputs, out, in, packed, scratch);
  }
}

}  // namespace et
