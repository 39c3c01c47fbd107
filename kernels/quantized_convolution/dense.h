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

// A layer over (n, h, w, c). A column has what is left over of each row of the window after its quads of bytes, filled
// up to a quad, then the quads of every row. inputs, outputs: channels of each group; elements: bytes of a column, a
// multiple of 4; merged: all taps of a row of the window are neighbours in memory; group_bytes: packed weights of a
// group.
struct Convolution8 {
  int32_t batch, in_height, in_width, groups, inputs, outputs, out_height, out_width;
  int32_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
  int32_t input_zero, elements, merged, group_bytes;
  Store8 store;
};

template <class G>
inline Convolution8 convolution8_of(const G& g) {
  return {g.batch,        g.in_height,   g.in_width,
          g.groups,       g.inputs,      g.outputs,
          g.out_height,   g.out_width,   g.kernel_height,
          g.kernel_width, g.stride_y,    g.stride_x,
          g.pad_y,        g.pad_x,       g.dilation_y,
          g.dilation_x,   g.input_zero,  g.elements,
          g.merged,       g.group_bytes, {g.zero_point, g.low, g.high}};
}

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

// What output position (y, x) of an image sees of one group, (kernel_height, kernel_width, inputs): rows of the window
// `step` bytes apart. A row may reach into the next one, which is written after it; what it would lose so is copied to
// *tail before.
template <class Bytes>
inline void gather(const Convolution8& layer, int8_t* column, int32_t step, int8_t* tail, const int8_t* image,
                   int32_t y, int32_t x) {
  const int32_t channels = layer.groups * layer.inputs;
  const int32_t run = layer.kernel_width * layer.inputs;
  const int32_t left = x * layer.stride_x - layer.pad_x;
  const int32_t before = smaller(larger(-left, 0), layer.kernel_width) * layer.inputs;
  const int32_t after =
      smaller(larger(left + layer.kernel_width - layer.in_width, 0), layer.kernel_width) * layer.inputs;
  for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
    const int32_t row = y * layer.stride_y - layer.pad_y + ky * layer.dilation_y;
    const int8_t* const from = image + row * layer.in_width * channels;
    if (row < 0 || row >= layer.in_height) {
      Bytes::fill(column, layer.input_zero, run);
    } else if (layer.merged != 0) {
      if (before > 0) {
        Bytes::fill(column, layer.input_zero, before);
      }
      if (before + after < run) {
        Bytes::copy(column + before, from + left * channels + before, run - before - after);
      }
      if (after > 0) {
        Bytes::fill(column + run - after, layer.input_zero, after);
      }
    } else {
      for (int32_t kx = 0; kx < layer.kernel_width; ++kx) {
        const int32_t at = left + kx * layer.dilation_x;
        if (at < 0 || at >= layer.in_width) {
          Bytes::fill(column + kx * layer.inputs, layer.input_zero, layer.inputs);
        } else {
          Bytes::copy(column + kx * layer.inputs, from + at * channels, layer.inputs);
        }
      }
    }
    for (int32_t i = step; i < run; ++i) {
      *tail++ = column[i];
    }
    column += step;
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

template <class Core>
__attribute__((noinline)) void convolution8(const Convolution8& layer, int8_t* out, const int8_t* in,
                                            const int8_t* packed, int8_t* column) {
  const int32_t channels = layer.groups * layer.inputs;
  const int32_t run = layer.kernel_width * layer.inputs;
  const int32_t whole = run / 4 * 4;
  const int32_t tail = ((run - whole) * layer.kernel_height + 3) / 4 * 4;
  memset(column, 0, static_cast<size_t>(layer.elements));
  for (int32_t n = 0; n < layer.batch; ++n) {
    const int8_t* const image = in + n * layer.in_height * layer.in_width * channels;
    for (int32_t y = 0; y < layer.out_height; ++y) {
      for (int32_t x = 0; x < layer.out_width; ++x) {
        for (int32_t group = 0; group < layer.groups; ++group) {
          gather<typename Core::Bytes>(layer, column + tail, whole, column, image + group * layer.inputs, y, x);
          Core::column(layer.store, layer.elements, layer.outputs, out, column, packed + group * layer.group_bytes);
          out += layer.outputs;
        }
      }
    }
  }
}

// G: the members of Convolution8, and zero_point, low, high of what is stored.
template <class Core, class G>
inline void quantized_convolution(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int8_t* column) {
  convolution8<Core>(convolution8_of(g), out, in, packed, column);
}

// A linear layer, or a 1x1 convolution: (positions, inputs) -> (positions, outputs).
template <class Core>
__attribute__((noinline)) void pointwise8(const Store8& store, int32_t positions, int32_t inputs, int32_t outputs,
                                          int8_t* out, const int8_t* in, const int8_t* packed, int8_t* column) {
  const int32_t elements = (inputs + 3) / 4 * 4;
  memset(column, 0, static_cast<size_t>(elements));
  for (int32_t position = 0; position < positions; ++position) {
    memcpy(column, in, static_cast<size_t>(inputs));
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
