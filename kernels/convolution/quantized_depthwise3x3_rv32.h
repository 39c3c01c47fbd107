// int8 depthwise convolution with 3x3 windows on RV32 with multiplication: the portable kernel's way, by hand, as the
// compiler does not find room for all of it in registers.
//
// A channel's 9 weights, bias and multiplier, three row pointers, the bounds and two sums stay in registers along a
// row. With a stride of 1 that is 32 instructions a result: 18 for the products, 3 loads, 7 for scaling, bounds and
// storing, 4 pointers; 38 with a stride of 2. What a row of a channel takes beside its columns: 60.
#pragma once

#include <stdint.h>

#include "convolution/quantized_depthwise3x3.h"

namespace et {

#if defined(__riscv_mul) && !defined(__riscv_32e)

// Weights of column 0: s2-s4, of 1: s5-s7, of 2: s8-s10; bias s11, multiplier s1; 2 * zero point + 1, bounds s0, a6,
// a7; rows a0-a2, where the last column read in the loop ends a4, results a3, from pixel to pixel a5; packed t0; +-1,
// the way along the row, ra; sums t1, t2.

// Column k of three rows.
#define ET_RV32_COLUMN "lb t3, 0(a0)\n lb t4, 0(a1)\n lb t5, 0(a2)\n add a0, a0, a5\n add a1, a1, a5\n add a2, a2, a5\n"
#define ET_RV32_TAPS(to, from, w0, w1, w2)                                                                        \
  "mul t6, t3, " w0 "\n add " to ", " from ", t6\n mul t6, t4, " w1 "\n add " to ", " to ", t6\n mul t6, t5, " w2 \
  "\n"                                                                                                            \
  "add " to ", " to ", t6\n"
#define ET_RV32_TAPS0(to, from) ET_RV32_TAPS(to, from, "s2", "s3", "s4")
#define ET_RV32_TAPS1(to, from) ET_RV32_TAPS(to, from, "s5", "s6", "s7")
#define ET_RV32_TAPS2(to, from) ET_RV32_TAPS(to, from, "s8", "s9", "s10")
// A column outside the image.
#define ET_RV32_OUTSIDE(to, from, w0, w1, w2) \
  "lw t3, %[zero]\n add t6, " w0 ", " w1 "\n add t6, t6, " w2 "\n mul t6, t6, t3\n add " to ", " from ", t6\n"
// requantized_doubled and saturated.
#define ET_RV32_STORE(sum)                                                                                           \
  "mulh " sum ", " sum ", s1\n add " sum ", " sum ", s0\n srai " sum ", " sum ", 1\n bge " sum ", a6, 11f\n mv " sum \
  ", a6\n 11:\n bge a7, " sum ", 12f\n mv " sum ", a7\n 12:\n sb " sum ", 0(a3)\n"

// All channels, one after the other: what makes a channel's row, and what stands aside of it, its first column where
// that lies inside the image.
#define ET_RV32_CHANNELS(row, aside)                                                                                  \
  asm volatile(                                                                                                       \
      "lw a0, %[row0]\n lw a1, %[row1]\n lw a2, %[row2]\n lw a3, %[out]\n lw a4, %[end]\n lw a5, %[step]\n"           \
      "lw a6, %[low]\n lw a7, %[high]\n lw s0, %[rounding]\n lw t0, %[packed]\n lw ra, %[way]\n"                      \
      "1:\n"                                                                                                          \
      "lw s11, 0(t0)\n lw s1, 4(t0)\n sub t1, t0, ra\n add t2, t0, ra\n lb s2, 9(t1)\n lb s3, 12(t1)\n"               \
      "lb s4, 15(t1)\n lb s5, 9(t0)\n lb s6, 12(t0)\n lb s7, 15(t0)\n lb s8, 9(t2)\n lb s9, 12(t2)\n"                 \
      "lb s10, 15(t2)\n addi t0, t0, 20\n lw t3, %[before]\n" row                                                     \
      "5:\n"                                                                                                          \
      "lw t3, %[row_back]\n lw t4, %[out_back]\n lw t5, %[packed_end]\n add a0, a0, t3\n add a1, a1, t3\n"            \
      "add a2, a2, t3\n add a3, a3, t4\n addi a4, a4, 1\n bne t0, t5, 1b\n j 7f\n" aside "7:\n"                       \
      :                                                                                                               \
      : [row0] "m"(row0), [row1] "m"(row1), [row2] "m"(row2), [out] "m"(to), [end] "m"(end), [step] "m"(step),        \
        [low] "m"(low), [high] "m"(high), [rounding] "m"(rounding), [packed] "m"(packed), [way] "m"(way),             \
        [before] "m"(before), [after] "m"(after), [zero] "m"(zero), [row_back] "m"(row_back),                         \
        [out_back] "m"(out_back), [packed_end] "m"(packed_end)                                                        \
      : "ra", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "a0", "a1", "a2", "a3", "a4", \
        "a5", "a6", "a7", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "memory")

// One row. One column at most outside the image at each end, and with a stride of 1 this row may lie over its inputs
// from either side.
template <int32_t kStride>
__attribute__((noinline)) void channels3x3_row_rv32(const Channels3x3& layer, int8_t* out, const int8_t* const* rows,
                                                    const int8_t* packed) {
  const int32_t channels = layer.channels;
  const int32_t width = layer.in_width;
  const int32_t count = layer.out_width;
  const bool backward = kStride == 1 && from_the_end(layer, out, rows);
  const int32_t way = backward ? -1 : 1;
  const int32_t step = way * channels;
  const int32_t right = smaller(larger((count - 1) * kStride + 3 - layer.pad_x - width, 0), 1);
  const int32_t before = backward ? right : layer.pad_x;
  const int32_t after = backward ? layer.pad_x : right;
  const int32_t read = (count - 1) * kStride + 3 - before - after;  // columns
  const int32_t in_loop = kStride == 1 ? read : read - after;
  const int32_t begin = backward ? (width - 1) * channels : 0;
  const int8_t* const row0 = rows[0] + begin;
  const int8_t* const row1 = rows[1] + begin;
  const int8_t* const row2 = rows[2] + begin;
  const int8_t* const end = row0 + in_loop * step;
  int8_t* const to = backward ? out + (count - 1) * channels : out;
  const int32_t row_back = 1 - read * step;
  const int32_t out_back = 1 - (count - after) * step;
  const int32_t rounding = 2 * layer.store.zero_point + 1;
  const int32_t low = layer.store.low;
  const int32_t high = layer.store.high;
  const int32_t zero = layer.input_zero;
  const int8_t* const packed_end = packed + 20 * channels;
  if constexpr (kStride == 1) {
    ET_RV32_CHANNELS(
      "beqz t3, 6f\n" ET_RV32_OUTSIDE("t2", "s11", "s2", "s3", "s4")
      "2:\n" ET_RV32_COLUMN "j 4f\n"
      "3:\n" ET_RV32_COLUMN ET_RV32_TAPS2("t1", "t1") ET_RV32_STORE("t1") "add a3, a3, a5\n"
      "4:\n" ET_RV32_TAPS1("t1", "t2") ET_RV32_TAPS0("t2", "s11") "bne a0, a4, 3b\n"
      "lw t3, %[after]\n beqz t3, 5f\n" ET_RV32_OUTSIDE("t1", "t1", "s8", "s9", "s10") ET_RV32_STORE("t1"),
      "6:\n" ET_RV32_COLUMN ET_RV32_TAPS0("t2", "s11") "j 2b\n");
  } else {
    ET_RV32_CHANNELS(
      "beqz t3, 6f\n" ET_RV32_OUTSIDE("t1", "s11", "s2", "s3", "s4")
      "2:\n beq a0, a4, 4f\n"
      "3:\n" ET_RV32_COLUMN ET_RV32_TAPS1("t1", "t1") ET_RV32_COLUMN ET_RV32_TAPS2("t2", "t1")
      ET_RV32_TAPS0("t1", "s11") ET_RV32_STORE("t2") "add a3, a3, a5\n bne a0, a4, 3b\n"
      "4:\n lw t3, %[after]\n beqz t3, 5f\n" ET_RV32_COLUMN ET_RV32_TAPS1("t1", "t1")
      ET_RV32_OUTSIDE("t1", "t1", "s8", "s9", "s10") ET_RV32_STORE("t1"),
      "6:\n" ET_RV32_COLUMN ET_RV32_TAPS0("t1", "s11") "j 2b\n");
  }
}

#undef ET_RV32_CHANNELS
#undef ET_RV32_STORE
#undef ET_RV32_OUTSIDE
#undef ET_RV32_TAPS2
#undef ET_RV32_TAPS1
#undef ET_RV32_TAPS0
#undef ET_RV32_TAPS
#undef ET_RV32_COLUMN

#else  // no multiplication, or half of the registers

template <int32_t kStride>
void channels3x3_row_rv32(const Channels3x3& layer, int8_t* out, const int8_t* const* rows, const int8_t* packed) {
  channels3x3_row<Scale8::kNearest, kStride>(layer, out, rows, packed);
}

#endif

// G: as quantized_depthwise_channels has it.
template <int32_t kStride, class G>
inline void quantized_depthwise_channels_rv32(const G& g, int8_t* out, const int8_t* const* rows,
                                              const int8_t* packed) {
  const Channels3x3 layer = {g.in_width, g.channels, g.out_width, g.pad_x, g.input_zero, {g.zero_point, g.low, g.high}};
  channels3x3_row_rv32<kStride>(layer, out, rows, packed);
}

}  // namespace et
