// int8 depthwise convolution with any window on Armv7E-M with DSP instructions: 4 channels of one position at a time.
//
// Two taps are multiplied at once: of two words of 4 channels each come 4 pairs of int16, one a channel. 14
// instructions for 8 multiply-accumulates; the first tap of an odd number takes 9 for 4; 27 for what is round it in
// each block of 4 channels, so 2.6 a multiply-accumulate for a 3x3 window and 2.0 for a 5x5 one. Windows lie where they
// are; nothing is copied.
#pragma once

#include <stdint.h>

#include "convolution/quantized_columns_dsp.h"
#include "et/order.h"

namespace et {

// Rows of a depthwise layer over (n, h, w, c). multiplier: output channels for each of the `channels` input channels;
// inner: the output positions [begin, end) whose windows lie inside the row; first_pairs: pairs of taps in the first
// turn of the loop, which makes 5 at once; share_bytes: packed weights of one result of every channel.
struct DepthwiseTaps8 {
  int32_t in_width, channels, multiplier, out_width, kernel_height, kernel_width, stride_x, pad_x, dilation_x;
  int32_t input_zero, inner_begin, inner_end, first_pairs, share_bytes;
  Store8 store;
};

template <class G>
constexpr DepthwiseTaps8 depthwise_taps8_of(const G& g) {
  return {g.in_width,     g.channels,  g.multiplier,  g.out_width,   g.kernel_height,
          g.kernel_width, g.stride_x,  g.pad_x,       g.dilation_x,  g.input_zero,
          g.inner_begin,  g.inner_end, g.first_pairs, g.share_bytes, {g.zero_point, g.low, g.high}};
}

template <class G>
struct FixedTaps8 {
  static constexpr DepthwiseTaps8 kLayer = depthwise_taps8_of(G{});
};

// A run of positions; the assembly knows the order.
struct TapsRun8 {
  int8_t* out;
  int32_t multiplier;    // from a channel's result to the next one's
  const int8_t** table;  // the taps of the first position
  int32_t base_end;      // bytes from a tap to the end of its whole blocks of 4 channels
  const int8_t** table_end;
  int32_t zero_point;  // of the results
  int32_t first_pairs;
  const int8_t* packed;
  int32_t positions;
  int32_t step;  // bytes from a position to the next one
  int32_t left;  // channels after the whole blocks: their block begins before them, with weights of zero
  int32_t base;  // bytes from a tap to the first block
};
#define ET_TAPS_AT_out 0
#define ET_TAPS_AT_multiplier 4
#define ET_TAPS_AT_table 8
#define ET_TAPS_AT_base_end 12
#define ET_TAPS_AT_table_end 16
#define ET_TAPS_AT_zero_point 20
#define ET_TAPS_AT_first_pairs 24
#define ET_TAPS_AT_packed 28
#define ET_TAPS_AT_positions 32
#define ET_TAPS_AT_step 36
#define ET_TAPS_AT_left 40
#define ET_TAPS_AT_base 44
ET_PLACE(TapsRun8, out, ET_TAPS_AT_out);
ET_PLACE(TapsRun8, multiplier, ET_TAPS_AT_multiplier);
ET_PLACE(TapsRun8, table, ET_TAPS_AT_table);
ET_PLACE(TapsRun8, base_end, ET_TAPS_AT_base_end);
ET_PLACE(TapsRun8, table_end, ET_TAPS_AT_table_end);
ET_PLACE(TapsRun8, zero_point, ET_TAPS_AT_zero_point);
ET_PLACE(TapsRun8, first_pairs, ET_TAPS_AT_first_pairs);
ET_PLACE(TapsRun8, packed, ET_TAPS_AT_packed);
ET_PLACE(TapsRun8, positions, ET_TAPS_AT_positions);
ET_PLACE(TapsRun8, step, ET_TAPS_AT_step);
ET_PLACE(TapsRun8, left, ET_TAPS_AT_left);
ET_PLACE(TapsRun8, base, ET_TAPS_AT_base);
#define ET_TAPS(place) ET_IN_FRAME(ET_TAPS_AT_##place)

// Two taps of 4 channels, 56 bytes of code: sums r3 to r6.
#define ET_DSP_TAPS                                                     \
  "ldrd r11, r12, [r2], #8\n ldr r11, [r11, r0]\n ldr r12, [r12, r0]\n" \
  "ldm r1!, {r7-r10}\n"                                                 \
  "pkhtb lr, r12, r11, asr #16\n pkhbt r11, r11, r12, lsl #16\n"        \
  "sxtb16 r12, r11\n smlad r3, r12, r7, r3\n"                           \
  "sxtb16 r11, r11, ror #8\n smlad r4, r11, r8, r4\n"                   \
  "sxtb16 r12, lr\n smlad r5, r12, r9, r5\n"                            \
  "sxtb16 lr, lr, ror #8\n smlad r6, lr, r10, r6\n"

// The frame: TapsRun8, where a block begins, 4 results, out and multiplier while they go there. Where the loop begins
// stands in place of first_pairs.
#define ET_TAPS_AT_loop ET_TAPS_AT_first_pairs
#define ET_TAPS_AT_block 48
#define ET_TAPS_AT_aside 52
#define ET_TAPS_AT_kept_out 56
#define ET_DSP_TAPS_BEGIN \
  "push {r4-r11, lr}\n" \
  "sub sp, sp, #64\n" \
  "mov r12, sp\n" \
  "ldm r0!, {r1-r8}\n stm r12!, {r1-r8}\n ldm r0, {r1-r4}\n stm r12!, {r1-r4}\n" \
  "adr.w r11, 4f\n" \
  "ldr r4, " ET_TAPS(first_pairs) "\n mov r5, #56\n mls r11, r4, r5, r11\n orr r11, r11, #1\n" \
  "str r11, " ET_TAPS(loop) "\n" \
  "adr.w r11, 11f\n adr.w r12, 12f\n" \
  "ldr r4, " ET_TAPS(table) "\n ldr r5, " ET_TAPS(table_end) "\n sub r5, r5, r4\n tst r5, #4\n" \
  "it eq\n moveq r11, r12\n orr r11, r11, #1\n str r11, " ET_TAPS(block) "\n" \
  "0:\n" \
  "ldr r0, " ET_TAPS(base) "\n ldr r1, " ET_TAPS(packed) "\n ldr r2, " ET_TAPS(table) "\n" \
  "1:\n" \
  "ldr pc, " ET_TAPS(block) "\n" \
  "11:\n" /* an odd number of taps: one alone, with weights (w0, w2), (w1, w3) */ \
  "ldm r1!, {r3-r6, r8, r9}\n ldr r11, [r2], #4\n ldr r11, [r11, r0]\n" \
  "sxtb16 r12, r11\n sxtb16 r11, r11, ror #8\n" \
  "smlabb r3, r12, r8, r3\n smlatt r5, r12, r8, r5\n" \
  "smlabb r4, r11, r9, r4\n smlatt r6, r11, r9, r6\n" \
  "ldr pc, " ET_TAPS(loop) "\n" \
  "12:\n" \
  "ldm r1!, {r3-r6}\n" \
  "ldr pc, " ET_TAPS(loop) "\n" \
  "2:\n" ET_DSP_TAPS ET_DSP_TAPS ET_DSP_TAPS ET_DSP_TAPS ET_DSP_TAPS \
  "4:\n" \
  "ldr r11, " ET_TAPS(table_end) "\n cmp r2, r11\n bne.w 2b\n" \
  "ldr lr, " ET_TAPS(zero_point) "\n" \
  "ldm r1!, {r7-r10}\n"
#define ET_DSP_TAPS_NEAREST \
  "smmlar r3, r3, r7, lr\n smmlar r4, r4, r8, lr\n smmlar r5, r5, r9, lr\n smmlar r6, r6, r10, lr\n"
#define ET_DSP_TAPS_TWICE               \
  ET_DSP_TWICE("r3", "r7", "r8", "lr")  \
  ET_DSP_TWICE("r4", "r9", "r10", "lr") \
  "ldm r1!, {r7-r10}\n" ET_DSP_TWICE("r5", "r7", "r8", "lr") ET_DSP_TWICE("r6", "r9", "r10", "lr")
#define ET_DSP_TAPS_END \
  "ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n ssat r6, #8, r6\n" \
  "ldrd r12, r7, " ET_TAPS(out) "\n" \
  "strb r3, [r12]\n strb r4, [r12, r7]\n add r12, r12, r7, lsl #1\n" \
  "strb r5, [r12]\n strb r6, [r12, r7]\n add r12, r12, r7, lsl #1\n" \
  "str r12, " ET_TAPS(out) "\n" \
  "ldrd r2, r11, " ET_TAPS(table) "\n" \
  "add r0, r0, #4\n cmp r0, r11\n bne.w 1b\n" \
  "ldr r3, " ET_TAPS(left) "\n cmp r3, #0\n bne 7f\n" \
  "6:\n" \
  "ldr r5, " ET_TAPS(step) "\n ldr r0, " ET_TAPS(base) "\n" \
  "add r11, r11, r5\n str r11, " ET_TAPS(base_end) "\n add r0, r0, r5\n str r0, " ET_TAPS(base) "\n" \
  "ldr r4, " ET_TAPS(positions) "\n subs r4, r4, #1\n str r4, " ET_TAPS(positions) "\n bne.w 0b\n" \
  "add sp, sp, #64\n" \
  "pop {r4-r11, pc}\n" \
  "7:\n" /* the channels that are left: the last ones of a block */ \
  "add r4, sp, #" ET_TEXT(ET_TAPS_AT_aside) " + 4\n cmp r12, r4\n beq 8f\n" \
  "strd r12, r7, " ET_TAPS(kept_out) "\n" \
  "add r4, sp, #" ET_TEXT(ET_TAPS_AT_aside) "\n mov r5, #1\n strd r4, r5, " ET_TAPS(out) "\n" \
  "add r4, r0, r3\n str r4, " ET_TAPS(base_end) "\n sub r0, r4, #4\n" \
  "b.w 1b\n" \
  "8:\n" \
  "ldrd r12, r7, " ET_TAPS(kept_out) "\n" \
  "sub r4, r4, r3\n sub r11, r0, r3\n" \
  "10:\n" \
  "ldrb r5, [r4], #1\n strb r5, [r12]\n add r12, r12, r7\n" \
  "subs r3, r3, #1\n bne 10b\n" \
  "strd r12, r7, " ET_TAPS(out) "\n" \
  "b 6b\n"

__attribute__((naked, noipa, aligned(4))) inline void taps_nearest(const TapsRun8* /*run*/) {
  asm volatile(ET_DSP_TAPS_BEGIN ET_DSP_TAPS_NEAREST ET_DSP_TAPS_END);
}

__attribute__((naked, noipa, aligned(4))) inline void taps_twice(const TapsRun8* /*run*/) {
  asm volatile(ET_DSP_TAPS_BEGIN ET_DSP_TAPS_TWICE ET_DSP_TAPS_END);
}

// One row. scratch: a pointer to each tap, and for windows that reach out of the row a byte for each channel.
template <bool kTwice>
__attribute__((noinline)) void depthwise8_taps_row(const DepthwiseTaps8& layer, int8_t* out, const int8_t* const* rows,
                                                   const int8_t* packed, int32_t* scratch) {
  const int8_t** const table = reinterpret_cast<const int8_t**>(scratch);
  const int8_t** const table_end = table + layer.kernel_height * layer.kernel_width;
  int8_t* const aside = reinterpret_cast<int8_t*>(table_end);
  if (layer.inner_begin > 0 || layer.inner_end < layer.out_width) {
    WordBytes::fill(aside, layer.input_zero, layer.channels);
  }
  int8_t* to = out;
  int32_t x = 0;
  while (x < layer.out_width) {
    const bool inside = x >= layer.inner_begin && x < layer.inner_end;
    const int32_t left = x * layer.stride_x - layer.pad_x;
    const int8_t** tap = table;
    for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
      int32_t at = left;
      for (int32_t kx = 0; kx < layer.kernel_width; ++kx) {
        *tap++ = at < 0 || at >= layer.in_width ? aside : rows[ky] + at * layer.channels;
        at += layer.dilation_x;
      }
    }
    const int32_t positions = inside ? layer.inner_end - x : 1;
    for (int32_t share = 0; share < layer.multiplier; ++share) {
      const TapsRun8 run = {to + share,
                            layer.multiplier,
                            table,
                            layer.channels & ~3,
                            table_end,
                            layer.store.zero_point,
                            layer.first_pairs,
                            packed + share * layer.share_bytes,
                            positions,
                            layer.stride_x * layer.channels,
                            layer.channels & 3,
                            0};
      if constexpr (kTwice) {
        taps_twice(&run);
      } else {
        taps_nearest(&run);
      }
    }
    to += positions * layer.channels * layer.multiplier;
    x += positions;
  }
  clamp_bytes(layer.store, out, static_cast<int32_t>(to - out));
}

template <bool kTwice, class G>
inline void quantized_depthwise_dsp(const G& g, int8_t* out, const int8_t* const* rows, const int8_t* packed,
                                    int32_t* scratch) {
  if constexpr (__is_empty(G)) {
    depthwise8_taps_row<kTwice>(FixedTaps8<G>::kLayer, out, rows, packed, scratch);
  } else {
    depthwise8_taps_row<kTwice>(depthwise_taps8_of(g), out, rows, packed, scratch);
  }
}

}  // namespace et
