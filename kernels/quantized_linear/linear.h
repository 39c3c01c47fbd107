// int8 linear layers on any core: several outputs of one or two rows at a time, read where they lie.
//
// Packed (etexport/integer_packing.py, pack_blocks): blocks of 4, 8 or 16 outputs; in each the biases, with the input's
// zero point in, then the weights of the first input, of the second, ..., then multipliers, and shifts where there are
// any.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/requantize.h"

namespace et {

// How sums are scaled: by multipliers alone, after a shift to the left, or as TFLite does.
enum class LinearScale { kNearest, kShifted, kTwice };

struct Linear8 {
  int32_t positions, inputs, outputs, zero_point, low, high;
};

template <LinearScale kScale>
struct LinearRows {
  // Of `count` outputs; `scales` are `block` multipliers, then as many shifts.
  static __attribute__((noinline)) void store(const Linear8& layer, int8_t* out, const int32_t* sums, int32_t count,
                                              const int32_t* scales, int32_t block) {
    for (int32_t c = 0; c < count; ++c) {
      const int32_t shift = kScale == LinearScale::kNearest ? 0 : scales[block + c];
      const int32_t scaled = kScale == LinearScale::kTwice ? requantized_twice(sums[c], scales[c], shift)
                                                           : requantized(sums[c], scales[c], shift);
      out[c] = saturated(scaled + layer.zero_point, layer.low, layer.high);
    }
  }

  // Products of the next kMany inputs.
  template <int32_t kRows, int32_t kBlock, int32_t kMany>
  static inline __attribute__((always_inline)) void add(int32_t (&sums)[kRows][kBlock], const int8_t* (&rows)[kRows],
                                                        const int8_t*& packed) {
#pragma GCC unroll 4
    for (int32_t k = 0; k < kMany; ++k) {
      int32_t values[kRows];
#pragma GCC unroll 2
      for (int32_t r = 0; r < kRows; ++r) {
        values[r] = rows[r][k];
      }
#pragma GCC unroll 16
      for (int32_t c = 0; c < kBlock; ++c) {
        const int32_t weight = packed[k * kBlock + c];
#pragma GCC unroll 2
        for (int32_t r = 0; r < kRows; ++r) {
          sums[r][c] += values[r] * weight;
        }
      }
    }
#pragma GCC unroll 2
    for (int32_t r = 0; r < kRows; ++r) {
      rows[r] += kMany;
    }
    packed += kMany * kBlock;
  }

  // kBlock outputs of kRows rows; returns the next block.
  template <int32_t kRows, int32_t kBlock, int32_t kMany>
  static inline __attribute__((always_inline)) const int8_t* block(const Linear8& layer, int8_t* out, const int8_t* x,
                                                                   const int8_t* packed, int32_t left) {
    int32_t sums[kRows][kBlock];
    const int32_t* const words = reinterpret_cast<const int32_t*>(packed);
#pragma GCC unroll 16
    for (int32_t c = 0; c < kBlock; ++c) {
#pragma GCC unroll 2
      for (int32_t r = 0; r < kRows; ++r) {
        sums[r][c] = words[c];
      }
    }
    packed += 4 * kBlock;
    const int8_t* rows[kRows];
#pragma GCC unroll 2
    for (int32_t r = 0; r < kRows; ++r) {
      rows[r] = x + r * layer.inputs;
    }
    const int8_t* const whole = x + layer.inputs / kMany * kMany;
    while (rows[0] != whole) {
      add<kRows, kBlock, kMany>(sums, rows, packed);
    }
    if constexpr (kMany > 1) {
      while (rows[0] != x + layer.inputs) {
        add<kRows, kBlock, 1>(sums, rows, packed);
      }
    }
#pragma GCC unroll 2
    for (int32_t r = 0; r < kRows; ++r) {
      int32_t results[kBlock];  // sums that have an address would be stored in every round
#pragma GCC unroll 16
      for (int32_t c = 0; c < kBlock; ++c) {
        results[c] = sums[r][c];
      }
      store(layer, out + r * layer.outputs, results, smaller(left, kBlock), reinterpret_cast<const int32_t*>(packed),
            kBlock);
    }
    return packed + (kScale == LinearScale::kNearest ? 4 : 8) * kBlock;
  }

  // All outputs of kRows rows: blocks of kBlock while less than 4 are missing, then of half as many, down to 4.
  template <int32_t kRows, int32_t kBlock, int32_t kMany>
  static inline __attribute__((always_inline)) void blocks(const Linear8& layer, int8_t* out, const int8_t* x,
                                                           const int8_t* packed, int32_t left) {
    for (; left > kBlock - 4; left -= kBlock) {
      packed = block<kRows, kBlock, kMany>(layer, out, x, packed, left);
      out += kBlock;
    }
    if constexpr (kBlock > 4) {
      blocks<kRows, kBlock / 2, 1>(layer, out, x, packed, left);
    }
  }

  // Loads that are hoisted over each other push sums out of registers; with two rows they do where the loop is
  // unrolled.
  template <int32_t kBlock, int32_t kMany>
  static __attribute__((noinline, optimize("no-schedule-insns"))) void one(const Linear8& layer, int8_t* out,
                                                                           const int8_t* x, const int8_t* packed) {
    blocks<1, kBlock, kMany>(layer, out, x, packed, layer.outputs);
  }

  static __attribute__((noinline)) void two(const Linear8& layer, int8_t* out, const int8_t* x, const int8_t* packed) {
    blocks<2, 4, 1>(layer, out, x, packed, layer.outputs);
  }
};

// (positions, inputs) -> (positions, outputs). G: the members of Linear8. kTwo: two rows at a time, kBlock is 4. kMany:
// inputs of one row in a round of the loop.
template <LinearScale kScale, bool kTwo, int32_t kBlock, int32_t kMany, class G>
inline void quantized_linear(const G& g, int8_t* out, const int8_t* in, const int8_t* packed) {
  const Linear8 layer = {g.positions, g.inputs, g.outputs, g.zero_point, g.low, g.high};
  int32_t left = layer.positions;
  if constexpr (kTwo) {
    for (; left >= 2; left -= 2) {
      LinearRows<kScale>::two(layer, out, in, packed);
      out += 2 * layer.outputs;
      in += 2 * layer.inputs;
    }
  }
  for (; left > 0; --left) {
    LinearRows<kScale>::template one<kBlock, kMany>(layer, out, in, packed);
    out += layer.outputs;
    in += layer.inputs;
  }
}

}  // namespace et
