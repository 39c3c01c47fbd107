// int8 depthwise convolution with a 3x3 window of stride 1 on Armv7E-M with DSP instructions, 4 channels at a time.
//
// First 4 input rows become, for each column and channel, the int16 pairs (row 0, row 1) and (row 2, row 3): 22
// instructions for 4 channels of a column. Then one channel after the other, its weights in registers as pairs (w0, w1)
// and (w1, w2) of each column of the window: 47 instructions for four results (two columns of two output rows), 1.3 a
// multiply-accumulate; of which 24 are the multiplications that this way needs.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "convolution/quantized_dsp.h"
#include "et/order.h"

namespace et {

// Rows of a layer over (n, h, w, c); the assembly knows the order.
struct Depthwise8Rows {
  int32_t in_width, channels, out_width, pad_x, input_zero;
  Store8 store;
};
ET_WORD(Depthwise8Rows, in_width, 0);
ET_WORD(Depthwise8Rows, channels, 1);
ET_WORD(Depthwise8Rows, out_width, 2);
ET_WORD(Depthwise8Rows, pad_x, 3);
ET_WORD(Depthwise8Rows, input_zero, 4);
ET_WORD(Depthwise8Rows, store, 5);

template <class G>
constexpr Depthwise8Rows depthwise8_rows_of(const G& g) {
  return {g.in_width, g.channels, g.out_width, g.pad_x, g.input_zero, {g.zero_point, g.low, g.high}};
}

template <class G>
struct FixedDepthwise8Rows {
  static constexpr Depthwise8Rows kLayer = depthwise8_rows_of(G{});
};

// One column of the window for two output rows: r12 = (row 0, row 1), lr = (row 2, row 3).
#define ET_DSP_TAPS_TWO(upper, lower, to0, to1, from0, from1)                      \
  "smlad " to0 ", r12, " upper ", " from0 "\n smlabt " to0 ", lr, " lower ", " to0 \
  "\n"                                                                             \
  "smlad " to1 ", lr, " lower ", " from1 "\n smlatb " to1 ", r12, " upper ", " to1 "\n"

// The frame of what follows: where it reads and writes, and its numbers. `channel_end` is the last column of the
// channel after the fourth, `last_column` that of this one, `row_begin` and `row_end` where the next four and all
// channels lie in a row, a `pixel` apart; `rows` are four.
#define ET_TWO_ROWS_AT_x 0
#define ET_TWO_ROWS_AT_out 4
#define ET_TWO_ROWS_AT_channel_end 8
#define ET_TWO_ROWS_AT_packed 12
#define ET_TWO_ROWS_AT_multiplier 16
#define ET_TWO_ROWS_AT_zero_point 20
#define ET_TWO_ROWS_AT_bias 24
#define ET_TWO_ROWS_AT_last_column 28
#define ET_TWO_ROWS_AT_step 32
#define ET_TWO_ROWS_AT_row_step 36
#define ET_TWO_ROWS_AT_pixel 40
#define ET_TWO_ROWS_AT_row_end 44
#define ET_TWO_ROWS_AT_row_begin 48
#define ET_TWO_ROWS_AT_inside 52
#define ET_TWO_ROWS_AT_rows 56
#define ET_TWO_ROWS_AT_rows_2 64
#define ET_TWO_ROWS_AT_channels 72
#define ET_TWO_ROWS(place) ET_IN_FRAME(ET_TWO_ROWS_AT_##place)

// Two output rows of more than one column: for each 4 channels first their records (from `inside` on, behind those of
// padding), then for each channel 47 instructions for two columns, 24 for the last of an odd number. The second row is
// stored first, so that a row step of 0 leaves the first one alone. Packed: see pack_windows in
// kernels/convolution/quantized_packing.py.
__attribute__((naked, noipa)) inline void depthwise_two_rows(const Depthwise8Rows* /*layer*/,
                                                             const int8_t* const* /*rows*/, int8_t* /*out*/,
                                                             const int8_t* /*packed*/, int32_t* /*records*/,
                                                             int32_t* /*inside*/, int32_t /*row_step*/,
                                                             const int8_t* /*row3*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldrd r4, r5, [sp, #36]\n ldrd r6, r7, [sp, #44]\n"  // what came on the stack, behind the registers that are kept
      "sub sp, sp, #76\n"
      "ldm r0, {r8-r12, lr}\n"        // in width, channels, out width, -, -, zero point
      "add r10, r4, r10, lsl #5\n"
      "strd r4, r2, " ET_TWO_ROWS(x) "\n"
      "strd r10, r3, " ET_TWO_ROWS(channel_end) "\n"
      "str lr, " ET_TWO_ROWS(zero_point) "\n"
      "strd r9, r6, " ET_TWO_ROWS(step) "\n"
      "mul r8, r8, r9\n mov r10, #0\n"
      "strd r9, r8, " ET_TWO_ROWS(pixel) "\n"
      "strd r10, r5, " ET_TWO_ROWS(row_begin) "\n"
      "ldm r1, {r0-r2}\n"
      "strd r0, r1, " ET_TWO_ROWS(rows) "\n strd r2, r7, " ET_TWO_ROWS(rows_2) "\n"
      "str r9, " ET_TWO_ROWS(channels) "\n"
      "1:\n"
      "ldrd r12, lr, " ET_TWO_ROWS(row_begin) "\n add r0, sp, #" ET_TEXT(ET_TWO_ROWS_AT_rows) "\n ldm r0, {r0-r3}\n"
      "2:\n"
      "ldr r4, [r0, r12]\n ldr r5, [r1, r12]\n ldr r6, [r2, r12]\n ldr r7, [r3, r12]\n"
      "pkhtb r8, r5, r4, asr #16\n pkhtb r9, r7, r6, asr #16\n"
      "pkhbt r4, r4, r5, lsl #16\n pkhbt r5, r6, r7, lsl #16\n"
      "sxtb16 r6, r4, ror #8\n sxtb16 r7, r5, ror #8\n sxtb16 r10, r8, ror #8\n sxtb16 r11, r9, ror #8\n"
      "sxtb16 r4, r4\n sxtb16 r5, r5\n sxtb16 r8, r8\n sxtb16 r9, r9\n"
      "stm lr!, {r4-r11}\n"
      "ldrd r4, r5, " ET_TWO_ROWS(pixel) "\n"
      "add r12, r12, r4\n cmp r12, r5\n bne 2b\n"
      "ldr r4, " ET_TWO_ROWS(row_begin) "\n add r12, r12, #4\n add r4, r4, #4\n"
      "strd r12, r4, " ET_TWO_ROWS(row_end) "\n"
      "ldm sp, {r0, r2, r4, r9}\n"
      "sub lr, r4, #32\n"
      "3:\n"
      "ldm r9!, {r1, r3, r5, r6, r10}\n"
      "sxtb16 r4, r3, ror #8\n sxtb16 r7, r6, ror #8\n sxtb16 r8, r5, ror #8\n"
      "sxtb16 r3, r3\n sxtb16 r6, r6\n sxtb16 r5, r5\n"
      "strd r9, r10, " ET_TWO_ROWS(packed) "\n strd r1, lr, " ET_TWO_ROWS(bias) "\n"
      "4:\n"
      "ldrd r12, lr, [r0], #32\n"
      ET_DSP_TAPS_TWO("r3", "r6", "r9", "r10", "r1", "r1")
      "ldrd r12, lr, [r0], #32\n"
      ET_DSP_TAPS_TWO("r4", "r7", "r9", "r10", "r9", "r10")
      ET_DSP_TAPS_TWO("r3", "r6", "r11", "r1", "r1", "r1")
      "ldrd r12, lr, [r0]\n"
      ET_DSP_TAPS_TWO("r5", "r8", "r9", "r10", "r9", "r10")
      ET_DSP_TAPS_TWO("r4", "r7", "r11", "r1", "r11", "r1")
      "ldrd r12, lr, [r0, #32]\n"
      ET_DSP_TAPS_TWO("r5", "r8", "r11", "r1", "r11", "r1")
      "ldrd r12, lr, " ET_TWO_ROWS(multiplier) "\n"
      "smmlar r9, r9, r12, lr\n smmlar r10, r10, r12, lr\n smmlar r11, r11, r12, lr\n smmlar r1, r1, r12, lr\n"
      "ldrd r12, lr, " ET_TWO_ROWS(step) "\n"
      "ssat r9, #8, r9\n ssat r10, #8, r10\n ssat r11, #8, r11\n ssat r1, #8, r1\n"
      "strb r10, [r2, lr]\n strb r9, [r2]\n add r2, r2, r12\n"
      "strb r1, [r2, lr]\n strb r11, [r2]\n add r2, r2, r12\n"
      "ldrd r1, lr, " ET_TWO_ROWS(bias) "\n"
      "cmp r0, lr\n blo.w 4b\n"
      "bne 5f\n"
      "ldrd r12, lr, [r0], #32\n"
      ET_DSP_TAPS_TWO("r3", "r6", "r9", "r10", "r1", "r1")
      "ldrd r12, lr, [r0]\n"
      ET_DSP_TAPS_TWO("r4", "r7", "r9", "r10", "r9", "r10")
      "ldrd r12, lr, [r0, #32]\n"
      ET_DSP_TAPS_TWO("r5", "r8", "r9", "r10", "r9", "r10")
      "ldrd r12, lr, " ET_TWO_ROWS(multiplier) "\n"
      "smmlar r9, r9, r12, lr\n smmlar r10, r10, r12, lr\n"
      "ldr r12, " ET_TWO_ROWS(row_step) "\n ldr lr, " ET_TWO_ROWS(last_column) "\n"
      "ssat r9, #8, r9\n ssat r10, #8, r10\n"
      "strb r10, [r2, r12]\n strb r9, [r2]\n"
      "5:\n"
      "ldm sp, {r0, r2, r4, r9}\n"
      "add r0, r0, #8\n add r2, r2, #1\n add lr, lr, #8\n"
      "strd r0, r2, " ET_TWO_ROWS(x) "\n"
      "cmp lr, r4\n bne.w 3b\n"
      "sub r0, r0, #32\n str r0, " ET_TWO_ROWS(x) "\n"
      "ldr r4, " ET_TWO_ROWS(row_begin) "\n ldr r5, " ET_TWO_ROWS(channels) "\n"
      "cmp r4, r5\n bne.w 1b\n"
      "add sp, sp, #76\n"
      "pop {r4-r11, pc}\n");
}

// The records of columns outside the image, from one up to another one.
inline __attribute__((noinline)) void pad_records(int32_t* from, const int32_t* to, int32_t input_zero) {
  const int32_t padding = static_cast<int32_t>(two_of(input_zero));
  while (from < to) {
    *from++ = padding;
  }
}

// `count` rows, 1 or 2, from 4 rows of the input. scratch: 8 words a column, with their padding.
inline __attribute__((noinline)) void depthwise3x3_rows(const Depthwise8Rows& layer, int8_t* out,
                                                        const int8_t* const* rows, int32_t count, const int8_t* packed,
                                                        int32_t* scratch) {
  const int32_t out_row = layer.out_width * layer.channels;
  int32_t* const inside = scratch + 8 * layer.pad_x;
  pad_records(scratch, inside, layer.input_zero);
  pad_records(inside + 8 * layer.in_width, scratch + 8 * (layer.out_width + 2), layer.input_zero);
  const bool two = count == 2;
  depthwise_two_rows(&layer, rows, out, packed, scratch, inside, two ? out_row : 0, two ? rows[3] : rows[2]);
  clamp_bytes(layer.store, out, count * out_row);
}

template <class G>
inline void quantized_depthwise_3x3(const G& g, int8_t* out, const int8_t* const* rows, int32_t count,
                                    const int8_t* packed, int32_t* scratch) {
  if constexpr (__is_empty(G)) {
    depthwise3x3_rows(FixedDepthwise8Rows<G>::kLayer, out, rows, count, packed, scratch);
  } else {
    depthwise3x3_rows(depthwise8_rows_of(g), out, rows, count, packed, scratch);
  }
}

}  // namespace et
