// The same linear layers with Armv7E-M's DSP instructions: SMLAD takes two products. Weights stay unsigned, as they are
// stored, and the zero point's share is taken off each sum.
//
// Instructions a multiply-accumulate in the loop: 1.5 for 4 and 8 bits. SMLAD alone is 0.5, unpacking as much again.
#pragma once

#include <stdint.h>

#include "few_bits/dynamic.h"

namespace et {

// Eight weights as pairs in halves of words, and their products with eight inputs (r4, r5, r6, r8). kOrder says which
// input is where.
struct DspNibbles : Nibbles {
  static constexpr uint8_t kOrder[8] = {0, 4, 1, 5, 2, 6, 3, 7};

  static int32_t sum(const uint8_t*& w, const int16_t*& x, int32_t eights) {
    int32_t total = 0;
    asm volatile(
        "1:\n ldr r9, [%[w]], #4\n ldmia %[x]!, {r4, r5, r6, r8}\n"
        "and r10, %[mask], r9\n smlad %[total], r4, r10, %[total]\n"
        "and r10, %[mask], r9, lsr #4\n smlad %[total], r5, r10, %[total]\n"
        "and r10, %[mask], r9, lsr #8\n smlad %[total], r6, r10, %[total]\n"
        "and r10, %[mask], r9, lsr #12\n smlad %[total], r8, r10, %[total]\n"
        "subs %[eights], %[eights], #1\n bne.n 1b\n"
        : [w] "+r"(w), [x] "+r"(x), [eights] "+r"(eights), [total] "+r"(total)
        : [mask] "r"(0x000f000f)
        : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
    return total;
  }
};

struct DspBytes : Bytes {
  static constexpr uint8_t kOrder[8] = {0, 2, 1, 3, 4, 6, 5, 7};

  static int32_t sum(const uint8_t*& w, const int16_t*& x, int32_t eights) {
    int32_t total = 0;
    asm volatile(
        "1:\n ldmia %[w]!, {r9, r10}\n ldmia %[x]!, {r4, r5, r6, r8}\n"
        "uxtb16 r12, r9\n smlad %[total], r4, r12, %[total]\n"
        "uxtb16 r12, r9, ror #8\n smlad %[total], r5, r12, %[total]\n"
        "uxtb16 r12, r10\n smlad %[total], r6, r12, %[total]\n"
        "uxtb16 r12, r10, ror #8\n smlad %[total], r8, r12, %[total]\n"
        "subs %[eights], %[eights], #1\n bne.n 1b\n"
        : [w] "+r"(w), [x] "+r"(x), [eights] "+r"(eights), [total] "+r"(total)
        :
        : "r4", "r5", "r6", "r8", "r9", "r10", "r12", "cc", "memory");
    return total;
  }
};

// The G of few_bits_dynamic, whose groups are whole eights; also eights (of a group). `sums` has room for a sum of each
// group of a row.
template <class Kind, class G>
__attribute__((noinline)) void few_bits_dynamic_dsp(const G& g, float* out, const float* x, const uint8_t* weight,
                                                    const float* scales, const int8_t* zero_points, const float* bias,
                                                    const float* residual, int16_t* row, int32_t* sums) {
  const int32_t groups = g.inputs / g.group;
  for (int32_t position = 0; position < g.positions; ++position) {
    const RowScale scale = scale_of_row(x, g.inputs);
    for (int32_t group = 0; group < groups; ++group) {
      int32_t sum = 0;
      for (int32_t i = group * g.group; i < (group + 1) * g.group; ++i) {
        const int32_t rounded = scale.rounded(x[i / 8 * 8 + Kind::kOrder[i % 8]]);
        row[i] = static_cast<int16_t>(rounded);
        sum += rounded;
      }
      sums[group] = sum;
    }
    x += g.inputs;
    const uint8_t* w = weight;
    int32_t at = 0;
    for (int32_t o = 0; o < g.outputs; ++o) {
      const int16_t* from = row;
      float total = 0.0f;
      for (int32_t group = 0; group < groups; ++group, ++at) {
        const int32_t zero = g.zero + (zero_points == nullptr ? 0 : zero_points[at]);
        const int32_t sum = Kind::sum(w, from, g.eights) - zero * sums[group];
        total += static_cast<float>(sum) * scales[at];
      }
      total = total * scale.scale;
      total = bias == nullptr ? total : total + bias[o];
      total = residual == nullptr ? total : total + *residual++;
      *out++ = clamped(total, g.low, g.high);
    }
  }
}

}  // namespace et
