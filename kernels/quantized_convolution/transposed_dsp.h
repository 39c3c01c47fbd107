// int8 transposed convolution on Armv7E-M with DSP instructions: outputs of one phase, which see the same taps, in
// pairs.
#pragma once

#include <stdint.h>

#include "quantized_convolution/dsp.h"
#include "quantized_convolution/transposed.h"

namespace et {

// Writes the taps of an output to every second entry of a table: rows of the input from `bottom` upwards, columns from
// `right` leftwards; what lies outside the image is `aside`.
inline __attribute__((noinline)) void place_taps(const Transposed8& layer, const int8_t** table, const int8_t* in,
                                                 const int8_t* aside, int32_t bottom, int32_t rows, int32_t right,
                                                 int32_t columns) {
  for (int32_t ky = 0; ky < rows; ++ky) {
    const int32_t row = bottom - ky * layer.y.back;
    const int32_t width = row < 0 || row >= layer.y.in_size ? 0 : layer.x.in_size;
    const int8_t* const from = in + row * layer.x.in_size * layer.inputs;
    int32_t at = right;
    for (int32_t kx = 0; kx < columns; ++kx) {
      *table = at < 0 || at >= width ? aside : from + at * layer.inputs;
      table += 2;
      at -= layer.x.back;
    }
  }
}

// scratch: 4 bytes for each of the longest column, `most` pairs of pointers, a tap of zero points. words: taps begin at
// words and have nothing left over.
template <bool kTwice>
__attribute__((noinline)) void transposed8_dsp(const Transposed8& layer, int32_t most_elements, int32_t most,
                                               int32_t words, int8_t* out, const int8_t* in, const int8_t* packed,
                                               int32_t* scratch) {
  int16_t* const columns = reinterpret_cast<int16_t*>(scratch);
  const int8_t** const table = reinterpret_cast<const int8_t**>(scratch + most_elements);
  int8_t* const aside = reinterpret_cast<int8_t*>(table + 2 * most);
  const int32_t step = layer.x.stride * layer.outputs;
  const int32_t quads = layer.inputs & ~3;
  int8_t* to = out;
  WordBytes::fill(aside, layer.input_zero, larger(layer.inputs, 4));
  for (int32_t n = 0; n < layer.batch; ++n) {
    for (int32_t y = 0; y < layer.y.out_size; ++y) {
      const int32_t phase_y = (y + layer.y.pad) % layer.y.stride;
      const int32_t bottom = (y + layer.y.pad - layer.y.reach[phase_y]) / layer.y.stride;
      const int32_t rows = layer.y.count[phase_y];
      const bool inside = bottom < layer.y.in_size && bottom - (rows - 1) * layer.y.back >= 0;
      for (int32_t first = 0; first < smaller(layer.x.stride, layer.x.out_size); ++first) {
        const int32_t phase_x = (first + layer.x.pad) % layer.x.stride;
        const int32_t across = layer.x.count[phase_x];
        const int32_t taps = rows * across;
        const int32_t left_over = (taps * (layer.inputs - quads) + 3) & ~3;
        const int32_t elements = larger(left_over + taps * quads, 4);
        Pairs8 run = pairs_of(layer.store, layer.outputs, step, columns, elements, left_over);
        run.packed = packed + layer.offset[phase_y * layer.x.stride + phase_x];
        run.table = table;
        run.table_end = table + 2 * larger(taps, 1);  // an output without taps reads 4 bytes of weight 0
        run.bytes = taps == 0 ? 4 : quads;
        run.left = taps == 0 ? 0 : layer.inputs - quads;
        run.skip = taps == 0 ? -4 : layer.inputs;  // the next pair is two inputs on
        run.words = taps == 0 ? 1 : words;
        table[0] = table[1] = aside;
        int32_t right = (first + layer.x.pad - layer.x.reach[phase_x]) / layer.x.stride;
        for (int32_t x = first; x < layer.x.out_size; x += 2 * run.pairs * layer.x.stride) {
          const int32_t left = (layer.x.out_size - x + layer.x.stride - 1) / layer.x.stride;  // positions
          const bool whole = inside && right - (across - 1) * layer.x.back >= 0;
          run.pairs = whole ? larger(smaller(layer.x.in_size - right, left) / 2, 1) : 1;
          run.out = to + x * layer.outputs;
          place_taps(layer, table, in, aside, bottom, rows, right, across);
          if (left > 1) {
            place_taps(layer, table + 1, in, aside, bottom, rows, right + 1, across);
            run.out_end = run.out + (layer.outputs & ~3);
            pairs<kTwice>(run);
          } else {
            int8_t* const column = reinterpret_cast<int8_t*>(scratch);
            collect(table, larger(taps, 1), run.bytes + run.left, column, left_over);
            PairedDsp<kTwice>::column(layer.store, elements, layer.outputs, run.out, column, run.packed);
          }
          right += 2 * run.pairs;
        }
      }
      to += layer.x.out_size * layer.outputs;
    }
    in += layer.y.in_size * layer.x.in_size * layer.inputs;
  }
  clamp_bytes(layer.store, out, static_cast<int32_t>(to - out));
}

// G: as quantized_transposed wants it; elements: of the longest column; taps: the most that an output sees; words.
template <bool kTwice, class G>
inline void quantized_transposed_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed,
                                     int32_t* scratch) {
  transposed8_dsp<kTwice>(transposed8_of(g), g.elements, g.taps, g.words, out, in, packed, scratch);
}

}  // namespace et
