// Linear layers with weights in few bits on the Cortex-M4 with FPU. Eight weights at a time become floats in registers,
// by what VCVTB and VCVTT take: halves of a word as float16. An unsigned byte or nibble u in a half is the subnormal
// number u * 2^-24, so that a mask and a conversion are all that a weight costs, and 2^24 goes into the result.
//
// Instructions a multiply-accumulate in the loop, one position and two at a time (which take the weights once):
// 4 and 8 bits 3.25 and 2.19, float16 2.5 and 1.81, bfloat16 3.13 and 2.13. Without loops and conversions it is 1.13.
#pragma once

#include <stdint.h>

#include "few_bits/few_bits.h"

namespace et {

// Eight weights in s8-s15, `w` moved on.
#define ET_FEW_CONVERT                                                                            \
  "vcvtb.f32.f16 s8, s4\n vcvtb.f32.f16 s9, s5\n vcvtb.f32.f16 s10, s6\n vcvtb.f32.f16 s11, s7\n" \
  "vcvtt.f32.f16 s12, s4\n vcvtt.f32.f16 s13, s5\n vcvtt.f32.f16 s14, s6\n vcvtt.f32.f16 s15, s7\n"
#define ET_FEW_NIBBLES                                                                              \
  "ldr r9, [%[w]], #4\n and r10, %[mask], r9, lsr #4\n and r11, %[mask], r9, lsr #8\n"              \
  "and r12, %[mask], r9, lsr #12\n and r9, r9, %[mask]\n vmov s4, s5, r9, r10\n vmov s6, s7, r11, " \
  "r12\n" ET_FEW_CONVERT
#define ET_FEW_BYTES                                                                              \
  "ldmia %[w]!, {r9, r10}\n uxtb16 r11, r9\n uxtb16 r9, r9, ror #8\n uxtb16 r12, r10\n"           \
  "uxtb16 r10, r10, ror #8\n vmov s4, s5, r11, r9\n vmov s6, s7, r12, r10\n"                      \
  "vcvtb.f32.f16 s8, s4\n vcvtb.f32.f16 s9, s5\n vcvtt.f32.f16 s10, s4\n vcvtt.f32.f16 s11, s5\n" \
  "vcvtb.f32.f16 s12, s6\n vcvtb.f32.f16 s13, s7\n vcvtt.f32.f16 s14, s6\n vcvtt.f32.f16 s15, s7\n"
#define ET_FEW_FLOAT16                                                                              \
  "vldmia %[w]!, {s4-s7}\n vcvtb.f32.f16 s8, s4\n vcvtt.f32.f16 s9, s4\n vcvtb.f32.f16 s10, s5\n"   \
  "vcvtt.f32.f16 s11, s5\n vcvtb.f32.f16 s12, s6\n vcvtt.f32.f16 s13, s6\n vcvtb.f32.f16 s14, s7\n" \
  "vcvtt.f32.f16 s15, s7\n"
#define ET_FEW_BFLOAT16                                                                   \
  "ldmia %[w]!, {r9, r10}\n lsl r11, r9, #16\n and r9, r9, %[mask]\n lsl r12, r10, #16\n" \
  "and r10, r10, %[mask]\n vmov s8, s9, r11, r9\n vmov s10, s11, r12, r10\n"              \
  "ldmia %[w]!, {r9, r10}\n lsl r11, r9, #16\n and r9, r9, %[mask]\n lsl r12, r10, #16\n" \
  "and r10, r10, %[mask]\n vmov s12, s13, r11, r9\n vmov s14, s15, r12, r10\n"

// A sum += eight inputs (s16-s23) times the weights.
#define ET_FEW_MAC(sum)                                                                                               \
  "vfma.f32 " sum ", s16, s8\n vfma.f32 " sum ", s17, s9\n vfma.f32 " sum ", s18, s10\n vfma.f32 " sum                \
  ", s19, s11\n vfma.f32 " sum ", s20, s12\n vfma.f32 " sum ", s21, s13\n vfma.f32 " sum ", s22, s14\n vfma.f32 " sum \
  ", s23, s15\n"

#define ET_FEW_CLOBBERS                                                                                           \
  "r9", "r10", "r11", "r12", "cc", "memory", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", \
      "s13", "s14", "s15", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24"

// Of a row of weights: `blocks` of `eights` * 8 elements. The sum of each begins with `zero` times the sum of its
// inputs and is multiplied by a scale, the next one `step` bytes on. `mask` is what the conversion asks for.
struct FewRow {
  int32_t blocks;
  int32_t eights;
  int32_t step;
  uint32_t mask;
  float zero;
};

// The kinds of weights: `one` and `two` add a row's sum for one position or two to `totals`. kUnit is what results are
// to be multiplied by.
#define ET_FEW_KIND(Kind, Of, unit, bits_mask, four, decode)                                                        \
  struct Kind : Of {                                                                                                \
    static constexpr float kUnit = unit;                                                                            \
    static constexpr uint32_t kMask = bits_mask;                                                                    \
    static constexpr bool kFourRows = four;                                                                         \
    static float one(const FewRow& row, const float* x, const uint8_t* w, const float* sums, const float* scales) { \
      int32_t blocks = row.blocks, left;                                                                            \
      const int32_t eights = row.eights, step = row.step;                                                           \
      float total = 0.0f;                                                                                           \
      asm volatile(                                                                                               \
          "1:\n vldmia %[sums]!, {s2}\n vmul.f32 s2, s2, %[zero]\n ldr %[left], %[eights]\n"                      \
          "2:\n" decode "vldmia %[x]!, {s16-s23}\n" ET_FEW_MAC("s2") "subs %[left], %[left], #1\n bne.n 2b\n"     \
          "vldr s3, [%[scales]]\n ldr r9, %[step]\n add %[scales], %[scales], r9\n vfma.f32 %[total], s2, s3\n"   \
          "subs %[blocks], %[blocks], #1\n bne.w 1b\n"                                                            \
          : [x] "+r"(x), [w] "+r"(w), [sums] "+r"(sums), [scales] "+r"(scales), [blocks] "+r"(blocks),            \
            [left] "=&r"(left), [total] "+t"(total)                                                               \
          : [eights] "m"(eights), [step] "m"(step), [mask] "r"(row.mask), [zero] "t"(row.zero)                    \
          : ET_FEW_CLOBBERS); \
      return total;                                                                                                 \
    }                                                                                                               \
    static void two(const FewRow& row, const float* x, const float* y, const uint8_t* w, const float* sums,         \
                    const float* scales, float (&totals)[2]) {                                                      \
      int32_t blocks = row.blocks, left;                                                                            \
      const int32_t eights = row.eights, step = row.step;                                                           \
      float first = 0.0f, second = 0.0f;                                                                            \
      asm volatile(                                                                                               \
          "1:\n vldmia %[sums]!, {s2, s3}\n vmul.f32 s2, s2, %[zero]\n vmul.f32 s3, s3, %[zero]\n"                \
          "ldr %[left], %[eights]\n"                                                                              \
          "2:\n" decode "vldmia %[x]!, {s16-s23}\n" ET_FEW_MAC("s2") "vldmia %[y]!, {s16-s23}\n" ET_FEW_MAC("s3") \
          "subs %[left], %[left], #1\n bne.n 2b\n"                                                                \
          "vldr s24, [%[scales]]\n ldr r9, %[step]\n add %[scales], %[scales], r9\n"                              \
          "vfma.f32 %[first], s2, s24\n vfma.f32 %[second], s3, s24\n"                                            \
          "subs %[blocks], %[blocks], #1\n bne.w 1b\n"                                                            \
          : [x] "+r"(x), [y] "+r"(y), [w] "+r"(w), [sums] "+r"(sums), [scales] "+r"(scales), [blocks] "+r"(blocks), \
            [left] "=&r"(left), [first] "+t"(first), [second] "+t"(second)                                        \
          : [eights] "m"(eights), [step] "m"(step), [mask] "r"(row.mask), [zero] "t"(row.zero)                    \
          : ET_FEW_CLOBBERS); \
      totals[0] = first;                                                                                            \
      totals[1] = second;                                                                                           \
    }                                                                                                               \
  };
ET_FEW_KIND(M4fNibbles, Nibbles, 0x1p24f, 0x000f000f, false, ET_FEW_NIBBLES)
ET_FEW_KIND(M4fBytes, Bytes, 0x1p24f, 0, false, ET_FEW_BYTES)
ET_FEW_KIND(M4fFloat16, Float16, 1.0f, 0, true, ET_FEW_FLOAT16)
ET_FEW_KIND(M4fBFloat16, BFloat16, 1.0f, 0xffff0000, false, ET_FEW_BFLOAT16)

// Four rows of float16, `bytes` apart, times one position's inputs, which are loaded once: 71 instructions for 32.
inline __attribute__((noinline)) void four_rows(int32_t eights, const float* x, const uint8_t* w, int32_t bytes,
                                                float* totals) {
  const uint8_t* b = w + bytes;
  const uint8_t* c = b + bytes;
  const uint8_t* d = c + bytes;
#define ET_FEW_ROW(w, sum)                                                                          \
  "vldmia %[" w                                                                                     \
  "]!, {s4-s7}\n vcvtb.f32.f16 s8, s4\n vcvtt.f32.f16 s9, s4\n vcvtb.f32.f16 s10, s5\n"             \
  "vcvtt.f32.f16 s11, s5\n vcvtb.f32.f16 s12, s6\n vcvtt.f32.f16 s13, s6\n vcvtb.f32.f16 s14, s7\n" \
  "vcvtt.f32.f16 s15, s7\n" ET_FEW_MAC(sum)
  asm volatile(
      "mov r9, #0\n vmov s0, s1, r9, r9\n vmov s2, s3, r9, r9\n"
      "1:\n vldmia %[x]!, {s16-s23}\n" ET_FEW_ROW("a", "s0") ET_FEW_ROW("b", "s1") ET_FEW_ROW("c", "s2")
          ET_FEW_ROW("d", "s3") "subs %[eights], %[eights], #1\n bne.w 1b\n vstmia %[totals], {s0-s3}\n"
      : [x] "+r"(x), [a] "+r"(w), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [eights] "+r"(eights)
      : [totals] "r"(totals)
      : ET_FEW_CLOBBERS, "s0", "s1");
}

// G: positions, inputs, outputs, blocks, eights, step, scales (of a row), zero (-2^-24 times what stands for 0); low,
// high. `sums` has room for the sums of the inputs' blocks, of two positions.
template <class Kind, class G>
__attribute__((noinline)) void few_bits_linear_m4f(const G& g, float* out, const float* x, const uint8_t* weight,
                                                   const float* scales, const float* bias, const float* residual,
                                                   float* sums) {
  const FewRow row{g.blocks, g.eights, g.step, Kind::kMask, g.zero};
  const int32_t bytes = row_bytes(g.inputs, Kind::kBytesOfEight);
  const auto store = [&](int32_t at, int32_t o, float total) {
    total = total * Kind::kUnit;
    total = bias == nullptr ? total : total + bias[o];
    total = residual == nullptr ? total : total + residual[at];
    out[at] = clamped(total, g.low, g.high);
  };
  for (int32_t position = 0; position < g.positions; position += 2) {
    const int32_t together = smaller(2, g.positions - position);
    for (int32_t p = 0; p < together; ++p) {
      const float* from = x + p * g.inputs;
      for (int32_t block = 0; block < g.blocks; ++block) {
        float sum = 0.0f;
        for (int32_t i = 0; i < g.eights * 8 && g.zero != 0.0f; ++i) {
          sum += *from++;
        }
        sums[block * together + p] = sum;
      }
    }
    for (int32_t o = 0; o < g.outputs; ++o) {
      const int32_t at = position * g.outputs + o;
      const uint8_t* const w = weight + o * bytes;
      const float* const s = scales + o * g.scales;
      if (Kind::kFourRows && together == 1 && o + 4 <= g.outputs) {
        float totals[4];
        four_rows(g.blocks * g.eights, x, w, bytes, totals);
        for (int32_t r = 0; r < 4; ++r) {
          store(at + r, o + r, totals[r] * *s);
        }
        o += 3;
      } else if (together == 1) {
        store(at, o, Kind::one(row, x, w, sums, s));
      } else {
        float totals[2];
        Kind::two(row, x, x + g.inputs, w, sums, s, totals);
        store(at, o, totals[0]);
        store(at + g.outputs, o, totals[1]);
      }
    }
    x += 2 * g.inputs;
  }
}

}  // namespace et
