// int8 convolution and linear layers: a column (what one output position sees) times packed weights, in exact 32-bit
// integers.
//
// Two packings, both for 4 output channels at a time (etexport/integer_packing.py is the definition). Zero points of
// inputs are in the biases, so a position outside the image is a byte of the input's zero point.
#pragma once

#include <stdint.h>
#include <string.h>

#include "et/arithmetic.h"
#include "et/requantize.h"

namespace et {

// How sums become stored values.
struct Store8 {
  int32_t zero_point, low, high;
};

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

inline int32_t halfword_at(const int8_t* p) {
  int16_t halfword;
  __builtin_memcpy(&halfword, __builtin_assume_aligned(p, 2), sizeof halfword);
  return halfword;
}

// How bytes are moved: by the C library.
struct LibraryBytes {
  static void copy(int8_t* to, const int8_t* from, int32_t count) { memcpy(to, from, static_cast<size_t>(count)); }

  static void fill(int8_t* to, int32_t value, int32_t count) { memset(to, value, static_cast<size_t>(count)); }
};

// Where the e-th of the bytes that are left over stands in a column: quads are filled in the order k0, k2, k1, k3, as
// their halfwords are in a core with 16-bit lanes.
inline int32_t left_over_at(int32_t e) { return (e & ~3) | (e & 1) << 1 | (e >> 1 & 1); }

// What position x of an output row sees, from byte `offset` of each pixel on; rows[ky] points to the rows of its
// window. Stretches are written `step` bytes apart. One may reach into the next, which is written after it; what it
// would lose so is copied to `left_over` before.
template <class Bytes>
inline void gather(const Convolution8& layer, int8_t* column, int32_t step, int8_t* left_over,
                   const int8_t* const* rows, int32_t offset, int32_t x) {
  const int32_t pixel = layer.groups * layer.inputs;
  const int32_t taps = layer.merged != 0 ? layer.kernel_width : 1;  // of a stretch
  const int32_t bytes = taps * layer.inputs;
  const int32_t left = x * layer.stride_x - layer.pad_x;
  int32_t e = 0;
  for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
    for (int32_t kx = 0; kx < layer.kernel_width; kx += taps) {
      const int32_t at = left + kx * layer.dilation_x;
      const int32_t before = smaller(larger(-at, 0), taps) * layer.inputs;
      const int32_t after = smaller(larger(at + taps - layer.in_width, 0), taps) * layer.inputs;
      if (before > 0) {
        Bytes::fill(column, layer.input_zero, before);
      }
      if (before + after < bytes) {
        Bytes::copy(column + before, rows[ky] + at * pixel + offset + before, bytes - before - after);
      }
      if (after > 0) {
        Bytes::fill(column + bytes - after, layer.input_zero, after);
      }
      for (int32_t i = step; i < bytes; ++i) {
        left_over[left_over_at(e++)] = column[i];
      }
      column += step;
    }
  }
}

// requantized_twice with a right shift r of at least 2, given as k = 2^(32 - r).
inline int32_t rounded_twice(int32_t acc, int32_t multiplier, int32_t k) {
  const int32_t high = static_cast<int32_t>((static_cast<int64_t>(acc) * multiplier + (INT64_C(1) << 30)) >> 31);
  return static_cast<int32_t>((static_cast<int64_t>(high - (high < 0 ? 1 : 0)) * k + (INT64_C(1) << 31)) >> 32);
}

// Two weights a halfword, h = 256 * upper + lower. Summing x * h and x * lower gives both sums: upper = (both - lower)
// >> 8, exact as long as it fits 24 bits, which the host has proven.
template <bool kTwice>
struct Paired {
  using Bytes = LibraryBytes;

  static __attribute__((noinline)) void column(const Store8& store, int32_t elements, int32_t outputs, int8_t* out,
                                               const int8_t* x, const int8_t* packed) {
    for (int32_t channel = 0; channel < outputs; channel += 4) {
      uint32_t lower0 = static_cast<uint32_t>(word_at(packed));
      uint32_t both0 = static_cast<uint32_t>(word_at(packed + 4));
      uint32_t lower1 = static_cast<uint32_t>(word_at(packed + 8));
      uint32_t both1 = static_cast<uint32_t>(word_at(packed + 12));
      packed += 16;
      const auto add = [&](int32_t value, const int8_t* weight) __attribute__((always_inline)) {
        const int32_t h0 = halfword_at(weight);
        const int32_t h1 = halfword_at(weight + 4);
        both0 += static_cast<uint32_t>(value * h0);
        lower0 += static_cast<uint32_t>(value * static_cast<int8_t>(h0));
        both1 += static_cast<uint32_t>(value * h1);
        lower1 += static_cast<uint32_t>(value * static_cast<int8_t>(h1));
      };
      for (int32_t k = 0; k < elements; k += 4) {
        add(x[k], packed);
        add(x[k + 1], packed + 8);
        add(x[k + 2], packed + 2);
        add(x[k + 3], packed + 10);
        packed += 16;
      }
      const int32_t sums[4] = {static_cast<int32_t>(lower0), static_cast<int32_t>(both0 - lower0) >> 8,
                               static_cast<int32_t>(lower1), static_cast<int32_t>(both1 - lower1) >> 8};
      const int32_t left = smaller(outputs - channel, 4);
      for (int32_t c = 0; c < left; ++c) {
        const int8_t* const scale = packed + (kTwice ? 8 : 4) * c;
        const int32_t scaled = kTwice ? rounded_twice(sums[c], word_at(scale), word_at(scale + (kTwice ? 4 : 0)))
                                      : requantized(sums[c], word_at(scale), 0);
        out[channel + c] = saturated(scaled + store.zero_point, store.low, store.high);
      }
      packed += kTwice ? 32 : 16;
    }
  }
};

// For what cannot be paired: for each channel bias, multiplier and shift, then its weights. kTwice: rounded as TFLite
// does.
template <bool kTwice>
struct Single {
  using Bytes = LibraryBytes;

  static __attribute__((noinline)) void column(const Store8& store, int32_t elements, int32_t outputs, int8_t* out,
                                               const int8_t* x, const int8_t* packed) {
    for (int32_t channel = 0; channel < outputs; ++channel) {
      uint32_t sum = static_cast<uint32_t>(word_at(packed));
      const int32_t multiplier = word_at(packed + 4);
      const int32_t shift = word_at(packed + 8);
      packed += 12;
      for (int32_t k = 0; k < elements; ++k) {
        sum += static_cast<uint32_t>(x[k] * packed[k]);
      }
      packed += elements;
      const int32_t acc = static_cast<int32_t>(sum);
      const int32_t scaled = kTwice ? requantized_twice(acc, multiplier, shift) : requantized(acc, multiplier, shift);
      out[channel] = saturated(scaled + store.zero_point, store.low, store.high);
    }
  }
};

// How a layer's stretches make a column.
struct Stretches8 {
  int32_t count, bytes, quads, left_over;

  explicit Stretches8(const Convolution8& layer)
      : count(layer.kernel_height * (layer.merged != 0 ? 1 : layer.kernel_width)),
        bytes(layer.inputs * (layer.merged != 0 ? layer.kernel_width : 1)),
        quads(bytes & ~3),
        left_over((count * (bytes - quads) + 3) & ~3) {}
};

// One row. scratch: a column, and 4 bytes.
template <class Core>
__attribute__((noinline)) void convolution8_row(const Convolution8& layer, int8_t* out, const int8_t* const* rows,
                                                const int8_t* packed, int8_t* scratch) {
  const Stretches8 stretches(layer);
  int8_t* const quads = scratch + stretches.left_over;
  memset(scratch, 0, static_cast<size_t>(stretches.left_over));
  for (int32_t x = 0; x < layer.out_width; ++x) {
    for (int32_t group = 0; group < layer.groups; ++group) {
      gather<typename Core::Bytes>(layer, quads, stretches.quads, scratch, rows, group * layer.inputs, x);
      Core::column(layer.store, layer.elements, layer.outputs, out, scratch, packed + group * layer.group_bytes);
      out += layer.outputs;
    }
  }
}

// G: the members of Convolution8, and zero_point, low, high of what is stored.
template <class Core, class G>
inline void quantized_convolution(const G& g, int8_t* out, const int8_t* const* rows, const int8_t* packed,
                                  int8_t* scratch) {
  if constexpr (__is_empty(G)) {
    convolution8_row<Core>(Fixed8<G>::kLayer, out, rows, packed, scratch);
  } else {
    convolution8_row<Core>(convolution8_of(g), out, rows, packed, scratch);
  }
}

// A column of one stretch.
template <class Bytes>
inline void arrange(int8_t* column, const int8_t* x, int32_t bytes) {
  const int32_t quads = bytes & ~3;
  for (int32_t i = quads; i < bytes; ++i) {
    column[left_over_at(i - quads)] = x[i];
  }
  Bytes::copy(column + ((bytes - quads + 3) & ~3), x, quads);
}

// A linear layer, or a 1x1 convolution: (positions, inputs) -> (positions, outputs).
template <class Core>
__attribute__((noinline)) void pointwise8(const Store8& store, int32_t positions, int32_t inputs, int32_t outputs,
                                          int8_t* out, const int8_t* in, const int8_t* packed, int8_t* column) {
  const int32_t elements = (inputs + 3) & ~3;
  memset(column, 0, static_cast<size_t>(elements));
  for (int32_t position = 0; position < positions; ++position) {
    arrange<typename Core::Bytes>(column, in, inputs);
    Core::column(store, elements, outputs, out, column, packed);
    in += inputs;
    out += outputs;
  }
}

// G: positions, inputs, outputs; zero_point, low, high.
template <class Core, class G>
inline void quantized_pointwise(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int8_t* column) {
  const Store8 store = {g.zero_point, g.low, g.high};
  pointwise8<Core>(store, g.positions, g.inputs, g.outputs, out, in, packed, column);
}

}  // namespace et
