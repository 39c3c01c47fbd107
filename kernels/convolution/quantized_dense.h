// int8 convolution and linear layers: windows over the rows of an image, in exact 32-bit integers. Zero points of
// inputs are in the biases, so a position outside the image is a byte of the input's zero point.
#pragma once

#include <stdint.h>

#include "convolution/quantized_blocks.h"
#include "et/arithmetic.h"
#include "et/move.h"

namespace et {

// Rows of a layer over (n, h, w, c). A column is what an output position sees of one group of channels: stretches of
// bytes, the rows of the window where all taps of a row are neighbours in memory (`merged`), else the taps. What each
// stretch has left over after its quads comes first, filled up to a quad, then the quads of every stretch. inputs,
// outputs: channels of each group; elements: bytes of a column, a multiple of 4; inner: the output positions [begin,
// end) whose windows lie inside the row; group_bytes: packed weights of a group; words: stretches begin at words and
// have nothing left over.
struct Convolution8 {
  int32_t in_width, groups, inputs, outputs, out_width, kernel_height, kernel_width, stride_y, stride_x, pad_x;
  int32_t dilation_x, input_zero, elements, merged, inner_begin, inner_end, group_bytes, words;
  Store8 store;
};

template <class G>
constexpr Convolution8 convolution8_of(const G& g) {
  return {g.in_width,
          g.groups,
          g.inputs,
          g.outputs,
          g.out_width,
          g.kernel_height,
          g.kernel_width,
          g.stride_y,
          g.stride_x,
          g.pad_x,
          g.dilation_x,
          g.input_zero,
          g.elements,
          g.merged,
          g.inner_begin,
          g.inner_end,
          g.group_bytes,
          g.words,
          {g.zero_point, g.low, g.high}};
}

// The description of a layer whose geometry is fixed, in flash.
template <class G>
struct Fixed8 {
  static constexpr Convolution8 kLayer = convolution8_of(G{});
};

inline int32_t word_at(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, __builtin_assume_aligned(p, 4), sizeof word);
  return word;
}

// What kMany positions from x of an output row see, from byte `offset` of each pixel on: `taps` stretches of each row.
template <int32_t kMany>
inline void see(Seen8<kMany>& seen, const Convolution8& layer, const int8_t* const* rows, const int8_t* outside,
                int32_t offset, int32_t x, int32_t taps) {
  const int32_t pixel = layer.groups * layer.inputs;
  const int8_t** to = seen.at[0];
  for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
    const int8_t* const row = rows[ky] + offset;
    int32_t first = x * layer.stride_x - layer.pad_x;
    for (int32_t kx = 0; kx < taps; ++kx) {
      int32_t at = first;
      for (int32_t p = 0; p < kMany; ++p) {
        *to++ = at < 0 || at >= layer.in_width ? outside : row + at * pixel;
        at += layer.stride_x;
      }
      first += layer.dilation_x;
    }
  }
  seen.count = layer.kernel_height * taps;
}

// What position x of an output row sees, from byte `offset` of each pixel on, put together in `column`.
inline __attribute__((noinline)) void gather(int8_t* column, const Convolution8& layer, const int8_t* const* rows,
                                             int32_t offset, int32_t x) {
  const int32_t pixel = layer.groups * layer.inputs;
  const int32_t taps = layer.merged != 0 ? layer.kernel_width : 1;  // neighbours in memory
  const int32_t bytes = taps * layer.inputs;
  const int8_t zero = static_cast<int8_t>(layer.input_zero);
  const int32_t left = x * layer.stride_x - layer.pad_x;
  for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
    for (int32_t kx = 0; kx < layer.kernel_width; kx += taps) {
      const int32_t at = left + kx * layer.dilation_x;
      const int32_t begin = smaller(larger(-at, 0), taps) * layer.inputs;
      const int32_t end = larger(smaller(layer.in_width - at, taps) * layer.inputs, begin);
      for (int32_t i = 0; i < begin; ++i) {
        column[i] = zero;
      }
      move_row(column + begin, rows[ky] + at * pixel + offset + begin, end - begin);
      for (int32_t i = end; i < bytes; ++i) {
        column[i] = zero;
      }
      column += bytes;
    }
  }
}

// One row. outside: `inputs` bytes of the input's zero point. aside: room for what a tile's positions see, where few
// inputs make stretches short, else null.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void convolution8_row(const Convolution8& layer, int8_t* out, const int8_t* const* rows,
                                                const int8_t* packed, const int8_t* outside, int8_t* aside) {
  constexpr int32_t kMany = Tile::kPositions;
  const int32_t across = layer.groups * layer.outputs;
  for (int32_t x = 0; x < layer.out_width;) {
    // all taps of a row are one stretch where the windows lie inside
    const bool whole = layer.merged != 0 && x >= layer.inner_begin;
    if constexpr (kMany > 1) {
      const bool one = whole && x + kMany <= layer.inner_end;
      const bool gathered = !one && aside != nullptr;
      const int32_t taps = one ? 1 : layer.kernel_width;
      if (x + kMany <= layer.out_width && (gathered || layer.kernel_height * taps <= kMostStretches)) {
        Seen8<kMany> seen;
        for (int32_t group = 0; group < layer.groups; ++group) {
          const int32_t offset = group * layer.inputs;
          if (gathered) {
            seen.count = 1;
            seen.length = layer.elements;
            for (int32_t p = 0; p < kMany; ++p) {
              seen.at[0][p] = aside + p * layer.elements;
              gather(aside + p * layer.elements, layer, rows, offset, x + p);
            }
          } else {
            seen.length = layer.kernel_width == taps ? layer.inputs : layer.kernel_width * layer.inputs;
            see(seen, layer, rows, outside, offset, x, taps);
          }
          tile8<kScale, Tile>(layer.store, layer.outputs, out + group * layer.outputs, across, seen,
                              packed + group * layer.group_bytes);
        }
        x += kMany;
        out += kMany * across;
        continue;
      }
    }
    const bool one = whole && x < layer.inner_end;
    const bool gathered = !one && aside != nullptr;
    const int32_t taps = one || gathered ? 1 : layer.kernel_width;
    const int32_t row_bytes = layer.kernel_width == taps ? layer.inputs : layer.kernel_width * layer.inputs;
    const int32_t left = x * layer.stride_x - layer.pad_x;
    const int32_t pixel = layer.groups * layer.inputs;
    for (int32_t group = 0; group < layer.groups; ++group) {
      const int32_t offset = group * layer.inputs;
      if (gathered) {
        gather(aside, layer, rows, offset, x);
      }
      const auto at = [&](int32_t ky, int32_t kx) {
        const int32_t column = left + kx * layer.dilation_x;
        const bool inside = column >= 0 && column < layer.in_width;
        return gathered ? aside : inside ? rows[ky] + column * pixel + offset : outside;
      };
      position8<kScale, Tile>(layer.store, layer.outputs, out, gathered ? 1 : layer.kernel_height, taps,
                              gathered ? layer.elements : row_bytes, packed + group * layer.group_bytes, at);
      out += layer.outputs;
    }
    ++x;
  }
}

// G: the members of Convolution8, and zero_point, low, high of what is stored.
template <Scale8 kScale, class Tile, class G>
inline void quantized_convolution(const G& g, int8_t* out, const int8_t* const* rows, const int8_t* packed,
                                  const int8_t* outside, int8_t* aside) {
  if constexpr (__is_empty(G)) {
    convolution8_row<kScale, Tile>(Fixed8<G>::kLayer, out, rows, packed, outside, aside);
  } else {
    convolution8_row<kScale, Tile>(convolution8_of(g), out, rows, packed, outside, aside);
  }
}

// A linear layer, or a 1x1 convolution: (positions, inputs) -> (positions, outputs). The first `tiles` tiles are read
// from `aside`, to which they are moved, where that is not null.
struct Pointwise8 {
  int32_t positions, tiles, inputs, outputs;
  Store8 store;
};

template <Scale8 kScale, class Tile>
__attribute__((noinline)) void pointwise8(const Pointwise8& layer, int8_t* out, const int8_t* in, const int8_t* packed,
                                          int8_t* aside) {
  constexpr int32_t kMany = Tile::kPositions;
  const int32_t inputs = layer.inputs;
  const auto placed = [&](int32_t positions) {
    if (aside == nullptr) return in;
    move_bytes(reinterpret_cast<uint8_t*>(aside), reinterpret_cast<const uint8_t*>(in), positions * inputs);
    return static_cast<const int8_t*>(aside);
  };
  int32_t left = layer.positions;
  if constexpr (kMany > 1) {
    Seen8<kMany> seen;
    seen.count = 1;
    seen.length = inputs;
    for (int32_t tiles = layer.tiles; tiles > 0; --tiles) {
      const int8_t* x = placed(kMany);
      for (int32_t p = 0; p < kMany; ++p) {
        seen.at[0][p] = x;
        x += inputs;
      }
      tile8<kScale, Tile>(layer.store, layer.outputs, out, layer.outputs, seen, packed);
      in += kMany * inputs;
      out += kMany * layer.outputs;
      left -= kMany;
    }
  }
  for (; left > 0; --left) {
    const int8_t* const x = placed(1);
    position8<kScale, Tile>(layer.store, layer.outputs, out, 1, 1, inputs, packed, [x](int32_t, int32_t) { return x; });
    in += inputs;
    out += layer.outputs;
  }
}

// G: the members of Pointwise8; zero_point, low, high.
template <Scale8 kScale, class Tile, class G>
inline void quantized_pointwise(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int8_t* aside) {
  const Pointwise8 layer = {g.positions, g.tiles, g.inputs, g.outputs, {g.zero_point, g.low, g.high}};
  pointwise8<kScale, Tile>(layer, out, in, packed, aside);
}

}  // namespace et
