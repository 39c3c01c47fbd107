// Linear layers with weights of 8 and 4 bits beside floats on the Cortex-M4 with FPU, in block fixed point: a
// position's inputs become 32-bit integers with one scale, and products are those of the DSP instructions, so that no
// weight has to become a float. The sums of a group of weights become floats and are multiplied by its scales.
//
// Weights are in blocks of channels, each block the groups of a row one after the other, each group words of weights,
// then a scale of each channel (kernels/few_bits/fixed.py). u = q + 128 or q + 8, unsigned.
//
//   8 bits: four channels of an input, [256 * q3 + u2][256 * q1 + u0]. SMLAW multiplies an input by a half and drops 16
//           bits of the product: the halves as they are, and with u2 and u0 alone, which are then taken off.
//   4 bits: eight channels of an input. SMLAL adds products to 64 bits, where a word with two weights 28 bits apart
//           makes two sums.
//
// Instructions a multiply-accumulate in the loop: 1.5 and 1.31. In float32 it is 1.13.
#pragma once

#include <stdint.h>

#include "few_bits/few_bits.h"

namespace et {

// What the loops below are given, in this order.
struct FixedRows {
  const uint32_t* words;
  const int32_t* x;
  const float* offsets;  // of each group: what the unsigned weights' share adds to a sum
  float* out;
  int32_t eights;  // of a group
  int32_t groups;
  int32_t blocks;
  float unit;    // what results are multiplied by
  int32_t half;  // what a sum begins with: SMLAW drops half a unit of each product, on the average
  float share;   // of the sum of the lower weights of halves in that of whole ones
};

#define ET_FIXED_CLOBBERS                                                                                             \
  "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory", "s0", "s1", "s2",  \
      "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19", \
      "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31"

// In both loops s16-s25 are FixedRows, s28 an offset, s29 where the next is, s30 the groups left.
#define ET_FIXED_OFFSET "vmov r0, s29\n vldmia r0!, {s28}\n vmov s29, r0\n"
#define ET_FIXED_NEXT(left, label) "vmov r0, " left "\n subs r0, r0, #1\n vmov " left ", r0\n bne.w " label "\n"
#define ET_FIXED_STORE(sums) "vmov r0, s19\n vstmia r0!, {" sums "}\n vmov s19, r0\n"

struct FixedBytes {
  static constexpr int32_t kLanes = 4;
  static constexpr float kLimit = 0x1.fp30f;  // of the sum of magnitudes: products of halves are below 2^30
  static constexpr float kUnit = 512.0f;      // 2^16 of SMLAW, a lower weight times 2^7
  static constexpr float kOffset = -128.0f / kUnit;
  static constexpr float kShare = 1.0f / 128.0f;  // u * 2^7 beside 256 * q + u

  static int32_t integer(uint32_t word, int32_t lane) {
    const auto half = static_cast<int16_t>(word >> (lane / 2 * 16));
    return lane % 2 != 0 ? half >> 8 : (half & 255) - 128;
  }
  static float scale_of(float stored, int32_t lane) { return lane % 2 != 0 ? stored * 2.0f : stored; }

#define ET_FIXED_INPUT(x, w)                                                                                        \
  "smlawt r3, " x ", " w ", r3\n smlawb r1, " x ", " w ", r1\n and " w ", r4, " w ", lsl #7\n smlawt r2, " x ", " w \
  ", r2\n smlawb r0, " x ", " w ", r0\n"
#define ET_FIXED_FOUR                                                          \
  "ldmia r5!, {r8-r11}\n ldrd r12, lr, [r6], #8\n" ET_FIXED_INPUT("r12", "r8") \
      ET_FIXED_INPUT("lr", "r9") "ldrd r12, lr, [r6], #8\n" ET_FIXED_INPUT("r12", "r10") ET_FIXED_INPUT("lr", "r11")

  static void run(const FixedRows& rows) {
    const FixedRows* from = &rows;
    register const FixedRows* r0 asm("r0") = from;
    asm volatile(
        "vldmia r0, {s16-s25}\n vmov r5, s16\n movw r4, #0x7f80\n movt r4, #0x7f80\n"
        "1:\n movs r0, #0\n vmov s0, s1, r0, r0\n vmov s2, s3, r0, r0\n"
        "vmov r6, s17\n vmov.f32 s29, s18\n vmov.f32 s30, s21\n"
        "2:\n vmov r0, s24\n vmov r7, s20\n mov r1, r0\n mov r2, r0\n mov r3, r0\n"
        "3:\n" ET_FIXED_FOUR ET_FIXED_FOUR
        "subs r7, r7, #1\n bne.w 3b\n"
        "vmov s8, s9, r0, r1\n vmov s10, s11, r2, r3\n vldmia r5!, {s12-s15}\n" ET_FIXED_OFFSET
        "vcvt.f32.s32 s8, s8\n vcvt.f32.s32 s9, s9\n vcvt.f32.s32 s10, s10\n vcvt.f32.s32 s11, s11\n"
        "vfms.f32 s9, s8, s25\n vfms.f32 s11, s10, s25\n vadd.f32 s8, s8, s28\n vadd.f32 s10, s10, s28\n"
        "vfma.f32 s0, s8, s12\n vfma.f32 s1, s9, s13\n vfma.f32 s2, s10, s14\n vfma.f32 s3, s11, s15\n"
        ET_FIXED_NEXT("s30", "2b")
        "vmul.f32 s0, s0, s23\n vmul.f32 s1, s1, s23\n vmul.f32 s2, s2, s23\n vmul.f32 s3, s3, s23\n"
        ET_FIXED_STORE("s0-s3") ET_FIXED_NEXT("s22", "1b")
        : "+r"(r0)
        :
        : ET_FIXED_CLOBBERS);
  }
};

struct FixedNibbles {
  static constexpr int32_t kLanes = 8;
  static constexpr float kLimit =
      0x1.0p24f;  // a lower sum, of 15 times the positive or the negative ones, is below 2^27
  static constexpr float kUnit = 1.0f;
  static constexpr float kOffset = -8.0f;
  static constexpr float kShare = 0.0f;

  static int32_t integer(uint32_t word, int32_t lane) {
    const uint32_t turned = word << 8 * (4 - lane / 2) % 32 | word >> 8 * (lane / 2);
    return lane % 2 != 0 ? static_cast<int32_t>(turned) >> 28 : static_cast<int32_t>(turned & 15) - 8;
  }
  static float scale_of(float stored, int32_t) { return stored; }

#define ET_FIXED_EIGHT_CHANNELS                                                        \
  "ldr r11, [r9], #4\n ldr r12, [r10], #4\n and lr, r8, r11\n smlal r0, r1, lr, r12\n" \
  "and lr, r8, r11, ror #8\n smlal r2, r3, lr, r12\n and lr, r8, r11, ror #16\n"       \
  "smlal r4, r5, lr, r12\n and lr, r8, r11, ror #24\n smlal r6, r7, lr, r12\n"
#define ET_FIXED_FOUR_INPUTS \
  ET_FIXED_EIGHT_CHANNELS ET_FIXED_EIGHT_CHANNELS ET_FIXED_EIGHT_CHANNELS ET_FIXED_EIGHT_CHANNELS
// Two sums of 64 bits; the upper one has what the lower borrowed of it.
#define ET_FIXED_SPLIT(low, high, even, odd)                                                                    \
  "sbfx r11, " low ", #0, #28\n lsrs " low ", " low ", #28\n orr " low ", " low ", " high ", lsl #4\n add " low \
  ", " low ", r11, lsr #31\n vmov " even ", " odd ", r11, " low "\n"

  static void run(const FixedRows& rows) {
    const FixedRows* from = &rows;
    register const FixedRows* r0 asm("r0") = from;
    asm volatile(
        "vldmia r0, {s16-s23}\n vmov r9, s16\n movw r8, #0x000f\n movt r8, #0xf000\n"
        "1:\n movs r0, #0\n vmov s0, s1, r0, r0\n vmov s2, s3, r0, r0\n vmov s4, s5, r0, r0\n vmov s6, s7, r0, r0\n"
        "vmov r10, s17\n vmov.f32 s29, s18\n vmov.f32 s30, s21\n"
        "2:\n movs r0, #0\n movs r1, #0\n movs r2, #0\n movs r3, #0\n movs r4, #0\n movs r5, #0\n movs r6, #0\n"
        "movs r7, #0\n vmov.f32 s31, s20\n"
        "3:\n" ET_FIXED_FOUR_INPUTS ET_FIXED_FOUR_INPUTS
        "vmov lr, s31\n subs lr, lr, #1\n vmov s31, lr\n bne.w 3b\n"
        ET_FIXED_SPLIT("r0", "r1", "s8", "s9") ET_FIXED_SPLIT("r2", "r3", "s10", "s11")
        ET_FIXED_SPLIT("r4", "r5", "s12", "s13") ET_FIXED_SPLIT("r6", "r7", "s14", "s15")
        ET_FIXED_OFFSET
        "vcvt.f32.s32 s8, s8\n vcvt.f32.s32 s9, s9\n vcvt.f32.s32 s10, s10\n vcvt.f32.s32 s11, s11\n"
        "vcvt.f32.s32 s12, s12\n vcvt.f32.s32 s13, s13\n vcvt.f32.s32 s14, s14\n vcvt.f32.s32 s15, s15\n"
        "vadd.f32 s8, s8, s28\n vadd.f32 s10, s10, s28\n vadd.f32 s12, s12, s28\n vadd.f32 s14, s14, s28\n"
        "vldmia r9!, {s24-s27}\n"
        "vfma.f32 s0, s8, s24\n vfma.f32 s1, s9, s25\n vfma.f32 s2, s10, s26\n vfma.f32 s3, s11, s27\n"
        "vldmia r9!, {s24-s27}\n"
        "vfma.f32 s4, s12, s24\n vfma.f32 s5, s13, s25\n vfma.f32 s6, s14, s26\n vfma.f32 s7, s15, s27\n"
        ET_FIXED_NEXT("s30", "2b")
        "vmul.f32 s0, s0, s23\n vmul.f32 s1, s1, s23\n vmul.f32 s2, s2, s23\n vmul.f32 s3, s3, s23\n"
        "vmul.f32 s4, s4, s23\n vmul.f32 s5, s5, s23\n vmul.f32 s6, s6, s23\n vmul.f32 s7, s7, s23\n"
        ET_FIXED_STORE("s0-s7") ET_FIXED_NEXT("s22", "1b")
        : "+r"(r0)
        :
        : ET_FIXED_CLOBBERS);
  }
};

// Of a layer: groups of a row, group (elements of each, the last one may have fewer), eights (words of a group and
// channel / 8).
struct FixedGeometry {
  int32_t inputs;
  int32_t outputs;
  int32_t groups;
  int32_t group;
  int32_t eights;
};

inline int32_t rounded(float x) {
  int32_t integer;
  asm("vcvtr.s32.f32 %0, %1" : "=t"(integer) : "t"(x));
  return integer;
}

// A position's inputs as integers and the groups' offsets; what results are to be multiplied by, or -1 where there is
// no such scale. `ints` are groups * eights * 8, filled up with zeros.
template <class Kind>
__attribute__((noinline)) float fixed_inputs(const FixedGeometry& g, const float* x, int32_t* ints, float* offsets) {
  float most = 0.0f;
  for (int32_t group = 0; group < g.groups; ++group) {
    float sum = 0.0f;
    float sizes = 0.0f;
    const float* const end = x + smaller((group + 1) * g.group, g.inputs);
#pragma GCC unroll 4
    for (const float* from = x + group * g.group; from != end; ++from) {
      sum += *from;
      sizes += __builtin_fabsf(*from);
    }
    sizes += __builtin_fabsf(sum);
    most = sizes > most || sizes != sizes ? sizes : most;
  }
  if (most == 0.0f) {
    most = 1.0f;
  } else if (!(most > 0x1p-90f && most < __builtin_inff())) {
    return -1.0f;
  }
  const float scale = Kind::kLimit / most;
  for (int32_t group = 0; group < g.groups; ++group) {
    int32_t sum = 0;
    int32_t* const filled = ints + g.eights * 8;
    const float* const end = x + smaller((group + 1) * g.group, g.inputs);
#pragma GCC unroll 4
    for (const float* from = x + group * g.group; from != end; ++from) {
      *ints = rounded(*from * scale);
      sum += *ints++;
    }
    while (ints != filled) {
      *ints++ = 0;
    }
    offsets[group] = static_cast<float>(sum) * Kind::kOffset;
  }
  return most * (Kind::kUnit / Kind::kLimit);
}

// The same sums in float, for inputs that have no scale: infinities, NaNs, numbers next to nothing.
template <class Kind>
__attribute__((noinline)) void fixed_as_floats(const FixedGeometry& g, float* out, const float* x,
                                               const uint32_t* weight) {
  const int32_t length = g.eights * 8 + Kind::kLanes;
  for (int32_t o = 0; o < g.outputs; ++o) {
    const int32_t lane = o % Kind::kLanes;
    const uint32_t* words = weight + o / Kind::kLanes * g.groups * length;
    float total = 0.0f;
    for (int32_t group = 0; group < g.groups; ++group) {
      float sum = 0.0f;
      for (int32_t i = group * g.group; i < smaller((group + 1) * g.group, g.inputs); ++i) {
        sum += x[i] * static_cast<float>(Kind::integer(words[i - group * g.group], lane));
      }
      total += sum * Kind::scale_of(float_of_bits(words[g.eights * 8 + lane]), lane);
      words += length;
    }
    out[o] = total;
  }
}

// G: positions, and what FixedGeometry says; apart: whether sums lie apart until the residual, which may lie where
// results do, has been read, and where there are no whole blocks of channels; low, high. `ints` has room for
// groups * eights * 8, `floats` for a number of each group and, apart, for whole blocks of sums. `inputs_of` is
// fixed_inputs or what does the same.
template <class Kind, class G, class InputsOf>
inline __attribute__((always_inline)) void fixed_layer(const G& g, float* out, const float* x, const int32_t* weight,
                                                       const float* bias, const float* residual, int32_t* ints,
                                                       float* floats, const InputsOf& inputs_of) {
  const FixedGeometry layer{g.inputs, g.outputs, g.groups, g.group, g.eights};
  const int32_t blocks = (g.outputs + Kind::kLanes - 1) / Kind::kLanes;
  for (int32_t position = 0; position < g.positions; ++position) {
    float* const sums = g.apart != 0 ? floats + g.groups : out;
    const auto* const words = reinterpret_cast<const uint32_t*>(weight);
    const float unit = inputs_of(layer, x, ints, floats);
    if (unit < 0.0f) {
      fixed_as_floats<Kind>(layer, sums, x, words);
    } else {
      Kind::run({words, ints, floats, sums, g.eights, g.groups, blocks, unit, g.eights * 4, Kind::kShare});
    }
    if (g.apart != 0 || bias != nullptr || g.low > -__builtin_inff() || g.high < __builtin_inff()) {
      for (int32_t o = 0; o < g.outputs; ++o) {
        float total = bias == nullptr ? sums[o] : sums[o] + bias[o];
        total = residual == nullptr ? total : total + *residual++;
        out[o] = clamped(total, g.low, g.high);
      }
    }
    out += g.outputs;
    x += g.inputs;
  }
}

template <class Kind, class G>
__attribute__((noinline)) void few_bits_linear_fixed(const G& g, float* out, const float* x, const int32_t* weight,
                                                     const float* bias, const float* residual, int32_t* ints,
                                                     float* floats) {
  fixed_layer<Kind>(g, out, x, weight, bias, residual, ints, floats, fixed_inputs<Kind>);
}

// A table in the same words, so that an output layer that has its weights shares them. For each index a row, as floats;
// of one out of range NaNs. G: count (indices), rows, elements (of a row), and groups, group, eights as above.
template <class Kind, class G, class Index>
void few_bits_embedding_fixed(const G& g, float* out, const int32_t* weight, const Index* index) {
  const int32_t length = g.eights * 8 + Kind::kLanes;
  for (int32_t at = 0; at < g.count; ++at) {
    const int64_t wide = index[at];
    const bool inside = wide >= 0 && wide < g.rows;
    const int32_t row = inside ? static_cast<int32_t>(wide) : 0;
    const int32_t lane = row % Kind::kLanes;
    const auto* words = reinterpret_cast<const uint32_t*>(weight) + row / Kind::kLanes * g.groups * length;
    for (int32_t begin = 0; begin < g.elements; begin += g.group) {
      const float scale = Kind::scale_of(float_of_bits(words[g.eights * 8 + lane]), lane);
      const int32_t size = smaller(g.group, g.elements - begin);
      for (int32_t i = 0; i < size; ++i) {
        const float value = static_cast<float>(Kind::integer(words[i], lane)) * scale;
        *out++ = inside ? value : __builtin_nanf("");
      }
      words += length;
    }
  }
}

}  // namespace et
