// int8 depthwise convolution with a 3x3 window of stride 1 on Armv7E-M with DSP instructions, 4 channels at a time.
//
// First 4 input rows become, for each column and channel, the int16 pairs (row 0, row 1) and (row 2, row 3): 22
// instructions for 4 channels of a column. Then one channel after the other, its weights in registers as pairs (w0, w1)
// and (w1, w2) of each column of the window: 26 instructions for two results (two output rows), 18 for one. Two rows at
// once: 1.4 instructions a multiply-accumulate in the loop.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "quantized_convolution/dsp.h"

namespace et {

// Rows of a layer over (n, h, w, c). columns: those of a row that windows see, padding included.
struct Depthwise3x3 {
  int32_t in_width, channels, out_width, pad_x, columns, input_zero;
  Store8 store;
};

template <class G>
inline Depthwise3x3 depthwise3x3_of(const G& g) {
  return {g.in_width, g.channels, g.out_width, g.pad_x, g.columns, g.input_zero, {g.zero_point, g.low, g.high}};
}

// 4 channels of four rows, `bytes` long, pixels `step` apart -> 8 words a pixel: for each channel (row 0, row 1), (row
// 2, row 3).
__attribute__((naked, noipa)) inline void interleave_rows(const int8_t* /*row0*/, const int8_t* /*row1*/,
                                                          const int8_t* /*row2*/, const int8_t* /*row3*/,
                                                          int32_t* /*out*/, int32_t /*step*/, int32_t /*bytes*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldr lr, [sp, #36]\n"
      "mov r12, #0\n"
      "1:\n"
      "ldr r4, [r0, r12]\n ldr r5, [r1, r12]\n ldr r6, [r2, r12]\n ldr r7, [r3, r12]\n"
      "pkhtb r8, r5, r4, asr #16\n pkhtb r9, r7, r6, asr #16\n"
      "pkhbt r4, r4, r5, lsl #16\n pkhbt r5, r6, r7, lsl #16\n"
      "sxtb16 r6, r4, ror #8\n sxtb16 r7, r5, ror #8\n sxtb16 r10, r8, ror #8\n sxtb16 r11, r9, ror #8\n"
      "sxtb16 r4, r4\n sxtb16 r5, r5\n sxtb16 r8, r8\n sxtb16 r9, r9\n"
      "stm lr!, {r4-r11}\n"
      "ldrd r4, r5, [sp, #40]\n"
      "add r12, r12, r4\n cmp r12, r5\n bne 1b\n"
      "pop {r4-r11, pc}\n");
}

// What the cores read beside their pointers, in bytes; the assembly knows the order.
struct Lanes8 {
  int32_t step, row_step, x_bytes, zero_point;
};

// One column of the window for two output rows: r12 = (row 0, row 1), lr = (row 2, row 3).
#define ET_DSP_TAPS_TWO(offset, upper, lower, from0, from1)                 \
  "ldrd r12, lr, [r0" offset                                                \
  "\n"                                                                      \
  "smlad r10, r12, " upper ", " from0 "\n smlad r11, lr, " lower ", " from1 \
  "\n"                                                                      \
  "smlabt r10, lr, " lower ", r10\n smlatb r11, r12, " upper ", r11\n"

// 4 channels of two output rows. Packed for each channel: 3 pairs (w0, w1), 3 pairs (w1, w2), bias,
// multiplier.
__attribute__((naked, noipa)) inline void depthwise_two_rows(const int32_t* /*x*/, const int8_t* /*packed*/,
                                                             int8_t* /*out*/, const Lanes8* /*lanes*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldm r3, {r4, r5, r7, r8}\n"   // step, row step, x bytes, zero point
      "sub sp, sp, #40\n"
      "add r7, r7, r0\n"             // end of x
      "mov r9, #4\n"
      "strd r4, r7, [sp, #8]\n"      // 8: step, 12: end
      "str r8, [sp, #4]\n"           // 4: zero point (0: multiplier)
      "strd r0, r2, [sp, #16]\n"     // 16: x, 20: out
      "strd r9, r5, [sp, #24]\n"     // 24: lanes left, 28: row step
      "1:\n"
      "ldm r1!, {r3-r10}\n"
      "str r1, [sp, #32]\n"          // 32: packed
      "str r10, [sp]\n"
      "ldr r1, [sp, #28]\n"
      "2:\n"
      ET_DSP_TAPS_TWO("], #32", "r3", "r6", "r9", "r9")
      ET_DSP_TAPS_TWO("]", "r4", "r7", "r10", "r11")
      ET_DSP_TAPS_TWO(", #32]", "r5", "r8", "r10", "r11")
      "ldrd r12, lr, [sp]\n"
      "smmlar r10, r10, r12, lr\n smmlar r11, r11, r12, lr\n"
      "ldrd r12, lr, [sp, #8]\n"
      "ssat r10, #8, r10\n ssat r11, #8, r11\n"
      "strb r11, [r2, r1]\n strb r10, [r2]\n"
      "add r2, r2, r12\n cmp r0, lr\n bne.w 2b\n"
      "ldrd r0, r2, [sp, #16]\n ldr r12, [sp, #24]\n ldr r1, [sp, #32]\n"
      "add r0, r0, #8\n add r2, r2, #1\n add lr, lr, #8\n"
      "subs r12, r12, #1\n"
      "strd r0, r2, [sp, #16]\n str r12, [sp, #24]\n str lr, [sp, #12]\n"
      "bne.w 1b\n"
      "add sp, sp, #40\n"
      "pop {r4-r11, pc}\n");
}

#define ET_DSP_TAPS_ONE(offset, upper, lower, from) \
  "ldrd r12, lr, [r0" offset "]\n smlad r10, r12, " upper ", " from "\n smlabt r10, lr, " lower ", r10\n"

// 4 channels of one output row; row 3 of x counts for nothing.
__attribute__((naked, noipa)) inline void depthwise_one_row(const int32_t* /*x*/, const int8_t* /*packed*/,
                                                            int8_t* /*out*/, const Lanes8* /*lanes*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldm r3, {r4, r5, r7, r8}\n"   // step, -, x bytes, zero point
      "sub sp, sp, #40\n"
      "add r7, r7, r0\n"
      "mov r9, #4\n"
      "strd r4, r7, [sp, #8]\n"      // 8: step, 12: end
      "str r8, [sp, #4]\n"           // 4: zero point (0: multiplier)
      "strd r0, r2, [sp, #16]\n"     // 16: x, 20: out
      "str r9, [sp, #24]\n"          // 24: lanes left
      "1:\n"
      "ldm r1!, {r3-r10}\n"
      "str r1, [sp, #32]\n"
      "str r10, [sp]\n"
      "ldr r1, [sp, #8]\n"
      "2:\n"
      ET_DSP_TAPS_ONE("", "r3", "r6", "r9")
      ET_DSP_TAPS_ONE(", #32", "r4", "r7", "r10")
      ET_DSP_TAPS_ONE(", #64", "r5", "r8", "r10")
      "ldrd r12, lr, [sp]\n"
      "add r0, r0, #32\n"
      "smmlar r10, r10, r12, lr\n"
      "ldr r12, [sp, #12]\n"
      "ssat r10, #8, r10\n"
      "strb r10, [r2]\n"
      "add r2, r2, r1\n cmp r0, r12\n bne.w 2b\n"
      "ldrd r0, r2, [sp, #16]\n ldr lr, [sp, #24]\n ldr r1, [sp, #32]\n"
      "add r0, r0, #8\n add r2, r2, #1\n add r12, r12, #8\n"
      "subs lr, lr, #1\n"
      "strd r0, r2, [sp, #16]\n str lr, [sp, #24]\n str r12, [sp, #12]\n"
      "bne.w 1b\n"
      "add sp, sp, #40\n"
      "pop {r4-r11, pc}\n");
}

// Copies whole words, 4 at a time as long as there are so many.
__attribute__((naked, noipa)) inline void copy_words(int8_t* /*to*/, const int8_t* /*from*/, int32_t /*bytes*/) {
  asm volatile(
      "push {r4-r6, lr}\n"
      "subs r2, r2, #16\n"
      "blt 2f\n"
      "1:\n"
      "ldm r1!, {r3-r6}\n"
      "subs r2, r2, #16\n"
      "stm r0!, {r3-r6}\n"
      "bge 1b\n"
      "2:\n"
      "adds r2, r2, #16\n"
      "beq 4f\n"
      "3:\n"
      "ldr r3, [r1], #4\n"
      "subs r2, r2, #4\n"
      "str r3, [r0], #4\n"
      "bne 3b\n"
      "4:\n"
      "pop {r4-r6, pc}\n");
}

// 4 channels of a row, pixels `step` apart. Rows begin at words, for channels come in fours.
inline void keep_channels(int8_t* to, const int8_t* from, int32_t step, int32_t bytes) {
  for (int32_t at = 0; at < bytes; at += step) {
    __builtin_memcpy(__builtin_assume_aligned(to + at, 4), __builtin_assume_aligned(from + at, 4), 4);
  }
}

// The columns of padding among the records of a row.
inline __attribute__((noinline)) void pad_records(const Depthwise3x3& layer, int32_t* records) {
  const int32_t padding =
      (layer.input_zero & 0xFFFF) | static_cast<int32_t>(static_cast<uint32_t>(layer.input_zero) << 16);
  const int32_t behind = 8 * smaller(layer.pad_x + layer.in_width, layer.columns);
  for (int32_t word = 0; word < 8 * layer.pad_x; ++word) {
    records[word] = padding;
  }
  for (int32_t word = behind; word < 8 * layer.columns; ++word) {
    records[word] = padding;
  }
}

// `count` rows, 1 or 2, from 4 rows of the input. records: 8 words a column, with their padding; kept: where rows[2] is
// copied, channels that have been read, or null.
inline __attribute__((noinline)) void depthwise3x3_rows(const Depthwise3x3& layer, int8_t* out,
                                                        const int8_t* const* rows, int32_t count, const int8_t* packed,
                                                        int32_t* records, int8_t* kept) {
  const int32_t out_row = layer.out_width * layer.channels;
  const int32_t inner = smaller(layer.in_width, layer.columns - layer.pad_x) * layer.channels;
  const Lanes8 lanes = {layer.channels, out_row, 32 * layer.out_width, layer.store.zero_point};
  int32_t* const first = records + 8 * layer.pad_x;
  const int8_t* const last = count == 2 ? rows[3] : rows[2];
  for (int32_t channel = 0; channel < layer.channels; channel += 4) {
    interleave_rows(rows[0] + channel, rows[1] + channel, rows[2] + channel, last + channel, first, layer.channels,
                    inner);
    if (kept != nullptr) {
      keep_channels(kept + channel, rows[2] + channel, layer.channels, layer.in_width * layer.channels);
    }
    if (count == 2) {
      depthwise_two_rows(records, packed, out + channel, &lanes);
    } else {
      depthwise_one_row(records, packed, out + channel, &lanes);
    }
    packed += 128;
  }
}

// scratch: 8 words a column.
template <class G>
inline void quantized_depthwise_3x3(const G& g, int8_t* out, const int8_t* const* rows, int32_t count,
                                    const int8_t* packed, int32_t* scratch) {
  const Depthwise3x3 layer = depthwise3x3_of(g);
  pad_records(layer, scratch);
  depthwise3x3_rows(layer, out, rows, count, packed, scratch, nullptr);
  clamp_bytes(layer.store, out, count * layer.out_width * layer.channels);
}

// All rows of all images, each with as many results as inputs, over the input or below it.
//
// Two output rows replace two input rows, of which the lower one is kept for the next two. Stored at once, four
// channels of a row are safe where the output begins whole pixels below the input, as it does if a pixel divides the 16
// bytes to which tensors are aligned. Else (`through`) they would meet channels of other pixels that are still to be
// read, and both rows are made aside.
struct InPlace3x3 {
  int32_t batch, height, through;
};

// pad_row: zero points, a row of the input. scratch: 8 words a column, then a row of the image, with `through` three.
inline __attribute__((noinline)) void depthwise3x3_in_place(const Depthwise3x3& layer, const InPlace3x3& images,
                                                            int8_t* out, const int8_t* in, const int8_t* packed,
                                                            const int8_t* pad_row, int32_t* scratch) {
  const int32_t row_bytes = layer.in_width * layer.channels;
  int8_t* const kept = reinterpret_cast<int8_t*>(scratch + 8 * layer.columns);
  int8_t* const aside = kept + row_bytes;
  pad_records(layer, scratch);
  for (int32_t n = 0; n < images.batch; ++n) {
    for (int32_t y = 0; y < images.height; y += 2) {
      const int32_t count = smaller(images.height - y, 2);
      const int8_t* const row = in + y * row_bytes;
      const int8_t* const rows[4] = {y == 0 ? pad_row : kept, row, y + 1 < images.height ? row + row_bytes : pad_row,
                                     y + 2 < images.height ? row + 2 * row_bytes : pad_row};
      if (images.through == 0) {
        depthwise3x3_rows(layer, out, rows, count, packed, scratch, count == 2 ? kept : nullptr);
      } else {
        depthwise3x3_rows(layer, aside, rows, count, packed, scratch, nullptr);
        copy_words(kept, rows[2], row_bytes);
        copy_words(out, aside, count * row_bytes);
      }
      clamp_bytes(layer.store, out, count * row_bytes);
      out += count * row_bytes;
    }
    in += images.height * row_bytes;
  }
}

template <class G>
inline void quantized_depthwise_3x3_in_place(const G& g, int8_t* out, const int8_t* in, const int8_t* packed,
                                             const int8_t* pad_row, int32_t* scratch) {
  const InPlace3x3 images = {g.batch, g.height, g.through};
  depthwise3x3_in_place(depthwise3x3_of(g), images, out, in, packed, pad_row, scratch);
}

}  // namespace et
