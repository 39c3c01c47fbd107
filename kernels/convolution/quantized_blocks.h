// int8 convolution and linear layers on any core: 4 output channels of several positions at a time, so that each
// operand is loaded once for the whole tile, from where it lies.
//
// Packed (kernels/convolution/quantized_packing.py, pack_blocks): for each 4 outputs the biases, with the input's zero
// point in, then the weights of the first byte of the window, of the second, ..., then what scales the sums.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/requantize.h"

namespace et {

// How sums are scaled: by doubled multipliers alone; by multipliers after a shift to the left; as TFLite does.
enum class Scale8 { kNearest, kShifted, kTwice };

// How sums become stored values.
struct Store8 {
  int32_t zero_point, low, high;
};

template <Scale8 kScale>
inline __attribute__((always_inline)) int8_t stored8(const Store8& store, int32_t sum, int32_t multiplier,
                                                     int32_t shift) {
  int32_t stored;
  if constexpr (kScale == Scale8::kNearest) {
    stored = requantized_doubled(sum, multiplier, store.zero_point);
  } else if constexpr (kScale == Scale8::kTwice) {
    stored = requantized_twice(sum, multiplier, shift) + store.zero_point;
  } else {
    stored = requantized(sum, multiplier, shift) + store.zero_point;
  }
  stored = smaller(larger(stored, store.low), store.high);
  asm("" : "+r"(stored));  // or the compiler narrows it and both bounds before it compares
  return static_cast<int8_t>(stored);
}

// Bytes of multipliers and shifts of a block of 4.
template <Scale8 kScale>
constexpr int32_t kScaleBytes = kScale == Scale8::kNearest ? 16 : 32;

// How many stretches a tile may see (MOST_STRETCHES in quantized_packing.py).
constexpr int32_t kMostStretches = 10;

// What kMany positions see: `count` stretches of `length` bytes that are neighbours in memory, in the order of the
// weights.
template <int32_t kMany>
struct Seen8 {
  int32_t count, length;
  const int8_t* at[kMostStretches][kMany];
};

// kMany positions x 4 channels, whose sums are the compiler's to keep in registers; kAtOnce bytes of each position in a
// round of the loop.
template <int32_t kMany, int32_t kAtOnce>
struct Tile8 {
  static constexpr int32_t kPositions = kMany;
  using One = Tile8<1, kAtOnce>;
  using Sums = int32_t[kMany][4];

  static inline __attribute__((always_inline)) void copy(Sums& to, const Sums& from) {
#pragma GCC unroll 4
    for (int32_t p = 0; p < kMany; ++p) {
#pragma GCC unroll 4
      for (int32_t c = 0; c < 4; ++c) {
        to[p][c] = from[p][c];
      }
    }
  }

  // Products of the next kBytes of each position.
  template <int32_t kBytes>
  static inline __attribute__((always_inline)) void add(Sums& sums, const int8_t* (&x)[kMany], const int8_t*& packed) {
#pragma GCC unroll 4
    for (int32_t k = 0; k < kBytes; ++k) {
      int32_t values[kMany];
#pragma GCC unroll 4
      for (int32_t p = 0; p < kMany; ++p) {
        values[p] = x[p][k];
      }
#pragma GCC unroll 4
      for (int32_t c = 0; c < 4; ++c) {
        const int32_t weight = packed[4 * k + c];
#pragma GCC unroll 4
        for (int32_t p = 0; p < kMany; ++p) {
          sums[p][c] += values[p] * weight;
        }
      }
    }
#pragma GCC unroll 4
    for (int32_t p = 0; p < kMany; ++p) {
      x[p] += kBytes;
    }
    packed += 4 * kBytes;
  }

  // One stretch of each position; returns where its weights end. A function of its own, as what else is alive in a
  // caller would take registers from the sums.
  static __attribute__((noinline)) const int8_t* stretch(Sums& all, const int8_t* const* from, int32_t length,
                                                         const int8_t* packed) {
    Sums sums;
    copy(sums, all);
    const int8_t* x[kMany];
#pragma GCC unroll 4
    for (int32_t p = 0; p < kMany; ++p) {
      x[p] = from[p];
    }
    const int8_t* const end = packed + 4 * length;
    for (const int8_t* const last = end - (length & (kAtOnce - 1)) * 4; packed != last;) {
      add<kAtOnce>(sums, x, packed);
    }
    if constexpr (kAtOnce > 1) {
      while (packed != end) {
        add<1>(sums, x, packed);
      }
    }
    copy(all, sums);
    return packed;
  }

  static inline __attribute__((always_inline)) const int8_t* begin(Sums& sums, const int8_t* packed) {
    const int32_t* const biases = reinterpret_cast<const int32_t*>(packed);
#pragma GCC unroll 4
    for (int32_t c = 0; c < 4; ++c) {
#pragma GCC unroll 4
      for (int32_t p = 0; p < kMany; ++p) {
        sums[p][c] = biases[c];
      }
    }
    return packed + 16;
  }

  // Stores `channels` of 4, those of a position `step` bytes from those of the one before.
  template <Scale8 kScale>
  static inline __attribute__((always_inline)) void store_channels(const Store8& store, int8_t* out, int32_t step,
                                                                   int32_t channels, const Sums& sums,
                                                                   const int8_t* packed) {
    const int32_t* const scales = reinterpret_cast<const int32_t*>(packed);
#pragma GCC unroll 4
    for (int32_t c = 0; c < channels; ++c) {
      const int32_t multiplier = scales[c];  // read before anything is stored, as bytes may be a part of it
      const int32_t shift = kScale == Scale8::kNearest ? 0 : scales[4 + c];
#pragma GCC unroll 4
      for (int32_t p = 0; p < kMany; ++p) {
        out[p * step + c] = stored8<kScale>(store, sums[p][c], multiplier, shift);
      }
    }
  }

  // The last block of a layer with a number of outputs that is no multiple of 4.
  template <Scale8 kScale>
  static __attribute__((noinline)) void store_some(const Store8& store, int8_t* out, int32_t step, int32_t channels,
                                                   const Sums& sums, const int8_t* packed) {
    store_channels<kScale>(store, out, step, channels, sums, packed);
  }

  // What there is of a block when its sums are made; `left` outputs are missing. Returns the next block.
  template <Scale8 kScale>
  static inline __attribute__((always_inline)) const int8_t* finish(const Store8& store, int8_t* out, int32_t step,
                                                                    int32_t left, const Sums& sums,
                                                                    const int8_t* packed) {
#if !defined(__OPTIMIZE_SIZE__)
    if (left >= 4) {
      store_channels<kScale>(store, out, step, 4, sums, packed);
      return packed + kScaleBytes<kScale>;
    }
#endif
    store_some<kScale>(store, out, step, smaller(left, 4), sums, packed);
    return packed + kScaleBytes<kScale>;
  }

  // All outputs of what is seen.
  template <Scale8 kScale>
  static inline __attribute__((always_inline)) void make(const Store8& store, int32_t outputs, int8_t* out,
                                                         int32_t step, const Seen8<kMany>& seen, const int8_t* packed) {
    for (int32_t left = outputs; left > 0; left -= 4) {
      Sums sums;
      packed = begin(sums, packed);
      for (int32_t at = 0; at < seen.count; ++at) {
        packed = stretch(sums, seen.at[at], seen.length, packed);
      }
      packed = finish<kScale>(store, out, step, left, sums, packed);
      out += 4;
    }
  }
};

// All outputs of a tile's positions, `step` bytes apart.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void tile8(const Store8& layer_store, int32_t outputs, int8_t* out, int32_t step,
                                     const Seen8<Tile::kPositions>& seen, const int8_t* packed) {
  const Store8 store = layer_store;  // what is stored is not a part of it, which the compiler does not know
  Tile::template make<kScale>(store, outputs, out, step, seen, packed);
}

// All outputs of one position, which sees any number of stretches: rows x taps of `length` bytes, at(row, tap) each.
template <Scale8 kScale, class Tile, class At>
inline __attribute__((always_inline)) void position8(const Store8& layer_store, int32_t outputs, int8_t* out,
                                                     int32_t rows, int32_t taps, int32_t length, const int8_t* packed,
                                                     At at) {
  const Store8 store = layer_store;
  for (int32_t left = outputs; left > 0; left -= 4) {
    typename Tile::One::Sums sums;
    packed = Tile::One::begin(sums, packed);
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t tap = 0; tap < taps; ++tap) {
        const int8_t* const x = at(row, tap);
        packed = Tile::One::stretch(sums, &x, length, packed);
      }
    }
    packed = Tile::One::template finish<kScale>(store, out, 0, left, sums, packed);
    out += 4;
  }
}

}  // namespace et
