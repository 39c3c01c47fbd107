// int8 linear layers on any core, row by row: as many outputs at a time as its registers hold sums, for with one row
// each weight is loaded for one product. Several rows share them: convolution/quantized_dense.h.
//
// Packed (kernels/convolution/quantized_packing.py, pack_blocks): blocks of 4, 8 or 16 outputs; in each the biases,
// with the input's zero point in, then the weights of the first input, of the second, ..., then multipliers, and shifts
// where there are any.
#pragma once

#include <stdint.h>

#include "convolution/quantized_blocks.h"
#include "et/arithmetic.h"

namespace et {

struct Linear8 {
  int32_t positions, inputs, outputs;
  Store8 store;
};

template <Scale8 kScale>
struct LinearRow {
  // Of `count` outputs; `scales` are `block` multipliers, then as many shifts.
  static __attribute__((noinline)) void store(const Store8& layer_store, int8_t* out, const int32_t* sums,
                                              int32_t count, const int32_t* scales, int32_t block) {
    const Store8 store = layer_store;  // what is stored is not a part of it, which the compiler does not know
    for (int32_t c = 0; c < count; ++c) {
      out[c] = stored8<kScale>(store, sums[c], scales[c], kScale == Scale8::kNearest ? 0 : scales[block + c]);
    }
  }

  // Products of the next kMany inputs.
  template <int32_t kBlock, int32_t kMany>
  static inline __attribute__((always_inline)) void add(int32_t (&sums)[kBlock], const int8_t*& x,
                                                        const int8_t*& packed) {
#pragma GCC unroll 4
    for (int32_t k = 0; k < kMany; ++k) {
      const int32_t value = x[k];
#pragma GCC unroll 16
      for (int32_t c = 0; c < kBlock; ++c) {
        sums[c] += value * packed[k * kBlock + c];
      }
    }
    x += kMany;
    packed += kMany * kBlock;
  }

  // kBlock outputs; returns the next block.
  template <int32_t kBlock, int32_t kMany>
  static inline __attribute__((always_inline)) const int8_t* block(const Linear8& layer, int8_t* out, const int8_t* x,
                                                                   const int8_t* packed, int32_t left) {
    int32_t sums[kBlock];
    const int32_t* const biases = reinterpret_cast<const int32_t*>(packed);
#pragma GCC unroll 16
    for (int32_t c = 0; c < kBlock; ++c) {
      sums[c] = biases[c];
    }
    packed += 4 * kBlock;
    const int8_t* const end = x + layer.inputs;
    const int8_t* const whole = x + layer.inputs / kMany * kMany;
    while (x != whole) {
      add<kBlock, kMany>(sums, x, packed);
    }
    if constexpr (kMany > 1) {
      while (x != end) {
        add<kBlock, 1>(sums, x, packed);
      }
    }
    int32_t results[kBlock];  // sums that have an address would be stored in every round
#pragma GCC unroll 16
    for (int32_t c = 0; c < kBlock; ++c) {
      results[c] = sums[c];
    }
    store(layer.store, out, results, smaller(left, kBlock), reinterpret_cast<const int32_t*>(packed), kBlock);
    return packed + kScaleBytes<kScale> / 4 * kBlock;
  }

  // All outputs: blocks of kBlock while less than 4 are missing, then of half as many, down to 4.
  template <int32_t kBlock, int32_t kMany>
  static inline __attribute__((always_inline)) void blocks(const Linear8& layer, int8_t* out, const int8_t* x,
                                                           const int8_t* packed, int32_t left) {
    for (; left > kBlock - 4; left -= kBlock) {
      packed = block<kBlock, kMany>(layer, out, x, packed, left);
      out += kBlock;
    }
    if constexpr (kBlock > 4) {
      blocks<kBlock / 2, 1>(layer, out, x, packed, left);
    }
  }

  // Loads that gcc hoists over each other push sums out of registers.
  template <int32_t kBlock, int32_t kMany>
#if !defined(__clang__)
  __attribute__((optimize("no-schedule-insns")))
#endif
  static __attribute__((noinline)) void one(const Linear8& layer, int8_t* out, const int8_t* x, const int8_t* packed) {
    blocks<kBlock, kMany>(layer, out, x, packed, layer.outputs);
  }
};

// (positions, inputs) -> (positions, outputs). G: positions, inputs, outputs; zero_point, low, high. kMany: inputs in a
// round of the loop.
template <Scale8 kScale, int32_t kBlock, int32_t kMany, class G>
inline void quantized_linear(const G& g, int8_t* out, const int8_t* in, const int8_t* packed) {
  const Linear8 layer = {g.positions, g.inputs, g.outputs, {g.zero_point, g.low, g.high}};
  for (int32_t left = layer.positions; left > 0; --left) {
    LinearRow<kScale>::template one<kBlock, kMany>(layer, out, in, packed);
    out += layer.outputs;
    in += layer.inputs;
  }
}

}  // namespace et
