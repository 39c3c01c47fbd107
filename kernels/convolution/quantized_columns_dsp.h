// Columns of int8 times packed weights on Armv7E-M with DSP instructions (Cortex-M4, M7, M33).
//
// A column is what one output position sees. Two weights share a halfword, h = 256 * upper + lower; summing x * h and
// x * lower gives both sums: upper = (both - lower) >> 8, exact as long as it fits 24 bits, which the host has proven.
// Where the upper sum or its bias may need more, the column is made in parts of which each one's upper sum fits, and
// these are added up apart, in 32 bits; there sums are scaled by one half and more as well. It costs 18 instructions in
// each block of 4 channels, and 14 for each further part.
//
// Two cores, written in assembly because each uses all 14 registers. The one for pairs of columns takes whole runs of
// pairs: it expands both columns of a pair from where they lie to int16, in scratch, then makes 4 channels of both in
// registers, block after block, from the packed stream. Instructions a multiply-accumulate in the loop: 0.77 (12 for
// 16, and 3 for 128: 8 sums, 2 x 2 operands, 2 pointers); 45 for what is round it in each block of 4 channels; 13 for
// 16 bytes expanded. The core for one column takes 0.94.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "convolution/quantized_dense.h"
#include "et/dsp.h"
#include "et/order.h"

namespace et {

// How sums are scaled, by the house's rule or by TFLite's, and whether columns are made in parts.
enum class Paired8 { kNearest, kTwice, kNearestParts, kTwiceParts };

constexpr bool in_parts(Paired8 paired) { return paired == Paired8::kNearestParts || paired == Paired8::kTwiceParts; }

// Where the e-th of the bytes that are left over stands in a column: quads are filled in the order k0, k2, k1, k3, as
// their halfwords are in a core with 16-bit lanes.
inline int32_t left_over_at(int32_t e) { return (e & ~3) | (e & 1) << 1 | (e >> 1 & 1); }

// How a layer's stretches make a column.
struct Stretches8 {
  int32_t count, bytes, quads, left_over;

  explicit Stretches8(const Convolution8& layer)
      : count(layer.kernel_height * (layer.merged != 0 ? 1 : layer.kernel_width)),
        bytes(layer.inputs * (layer.merged != 0 ? layer.kernel_width : 1)),
        quads(bytes & ~3),
        left_over((count * (bytes - quads) + 3) & ~3) {}
};

// A column of one stretch.
template <class Bytes>
inline void arrange(int8_t* column, const int8_t* x, int32_t bytes) {
  const int32_t quads = bytes & ~3;
  for (int32_t i = quads; i < bytes; ++i) {
    column[left_over_at(i - quads)] = x[i];
  }
  Bytes::copy(column + ((bytes - quads + 3) & ~3), x, quads);
}

// A run of pairs of columns (a, b). A column is `stretches` of bytes: of each what is left over after whole quads comes
// first, filled up to a quad, then the quads of all of them. The table has each stretch's first byte for a and for b,
// by turns, and is moved on from pair to pair. The assembly knows the order of the members.
struct Pairs8 {
  int16_t* columns;    // scratch: 4 bytes for each byte of a column
  int8_t* out_end;     // where the whole blocks of a's results end
  int8_t* out;         // a's results
  int32_t out_step;    // from a's to b's
  int32_t zero_point;  // of the results
  int16_t* columns_end;
  int32_t out_skip;  // from out_end to the next a's results
  int32_t out_next;  // from out_end to the next out_end
  const int8_t* packed;
  int32_t out_left;  // channels after the whole blocks
  int32_t pairs;
  int16_t* quads;  // in columns, behind what is left over
  const int8_t** table;
  int32_t bytes;  // of each stretch, whole quads
  int32_t skip;   // from the end of a stretch to its start in the next pair
  const int8_t** table_end;
  int32_t left;   // bytes of each stretch after the quads
  int32_t words;  // stretches begin at words, and nothing is left over
};
#define ET_PAIRS_AT_columns 0
#define ET_PAIRS_AT_out_end 4
#define ET_PAIRS_AT_out 8
#define ET_PAIRS_AT_out_step 12
#define ET_PAIRS_AT_zero_point 16
#define ET_PAIRS_AT_columns_end 20
#define ET_PAIRS_AT_out_skip 24
#define ET_PAIRS_AT_out_next 28
#define ET_PAIRS_AT_packed 32
#define ET_PAIRS_AT_out_left 36
#define ET_PAIRS_AT_pairs 40
#define ET_PAIRS_AT_quads 44
#define ET_PAIRS_AT_table 48
#define ET_PAIRS_AT_bytes 52
#define ET_PAIRS_AT_skip 56
#define ET_PAIRS_AT_table_end 60
#define ET_PAIRS_AT_left 64
#define ET_PAIRS_AT_words 68
ET_PLACE(Pairs8, columns, ET_PAIRS_AT_columns);
ET_PLACE(Pairs8, out_end, ET_PAIRS_AT_out_end);
ET_PLACE(Pairs8, out, ET_PAIRS_AT_out);
ET_PLACE(Pairs8, out_step, ET_PAIRS_AT_out_step);
ET_PLACE(Pairs8, zero_point, ET_PAIRS_AT_zero_point);
ET_PLACE(Pairs8, columns_end, ET_PAIRS_AT_columns_end);
ET_PLACE(Pairs8, out_skip, ET_PAIRS_AT_out_skip);
ET_PLACE(Pairs8, out_next, ET_PAIRS_AT_out_next);
ET_PLACE(Pairs8, packed, ET_PAIRS_AT_packed);
ET_PLACE(Pairs8, out_left, ET_PAIRS_AT_out_left);
ET_PLACE(Pairs8, pairs, ET_PAIRS_AT_pairs);
ET_PLACE(Pairs8, quads, ET_PAIRS_AT_quads);
ET_PLACE(Pairs8, table, ET_PAIRS_AT_table);
ET_PLACE(Pairs8, bytes, ET_PAIRS_AT_bytes);
ET_PLACE(Pairs8, skip, ET_PAIRS_AT_skip);
ET_PLACE(Pairs8, table_end, ET_PAIRS_AT_table_end);
ET_PLACE(Pairs8, left, ET_PAIRS_AT_left);
ET_PLACE(Pairs8, words, ET_PAIRS_AT_words);
#define ET_PAIRS(place) ET_IN_FRAME(ET_PAIRS_AT_##place)

// NEAREST and TWICE scale the sums: the house's rule, and TFLite's, where a doubled high multiply by m comes first, and
// k = 2^(32 - right shift) rounds ties away from zero; z is the zero point.
#define ET_DSP_TWICE(r, m, k, z)                                                                                   \
  "lsl " r ", " r ", #1\n smmulr " r ", " r ", " m "\n add " r ", " r ", " r ", asr #31\n smmlar " r ", " r ", " k \
  ", " z "\n"

// 2 k of 4 channels and 2 columns: lower sums r2, r4 (first column), r6, r8 (second); sums of both r3, r5, r7, r9.
#define ET_DSP_TWO                                     \
  "ldrd r10, r11, [r1], #8\n ldrd r12, lr, [r0], #8\n" \
  "smlad r3, r12, r10, r3\n smlad r7, lr, r10, r7\n"   \
  "smlad r5, r12, r11, r5\n smlad r9, lr, r11, r9\n"   \
  "sxtb16 r10, r10\n sxtb16 r11, r11\n"                \
  "smlad r2, r12, r10, r2\n smlad r6, lr, r10, r6\n"   \
  "smlad r4, r12, r11, r4\n smlad r8, lr, r11, r8\n"
#define ET_DSP_QUAD ET_DSP_TWO ET_DSP_TWO

// How far the loops are unrolled. A turn costs 3 instructions; a quad is 24 and 96 bytes, two of one column 28 and 56.
#ifdef ET_OPTIMIZE_SIZE
#define ET_DSP_PAIR_QUADS ET_DSP_QUAD ET_DSP_QUAD
#define ET_DSP_PAIR_TURNS "1" /* less one, for a mask */
#define ET_DSP_ONE_TURNS "1"
#define ET_DSP_ONE_QUADS ET_DSP_ONE ET_DSP_ONE
#else
#define ET_DSP_PAIR_QUADS \
  ET_DSP_QUAD ET_DSP_QUAD ET_DSP_QUAD ET_DSP_QUAD ET_DSP_QUAD ET_DSP_QUAD ET_DSP_QUAD ET_DSP_QUAD
#define ET_DSP_PAIR_TURNS "7"
#define ET_DSP_ONE_TURNS "3"
#define ET_DSP_ONE_QUADS ET_DSP_ONE ET_DSP_ONE ET_DSP_ONE ET_DSP_ONE
#endif

// The frame: Pairs8, then where the loop begins, 4 results of each column, out and out_step while they go there. With
// parts also the ends of the first part and of this one, the bytes of a part, and the upper sums of the parts that are
// done, biases among them, of each column. LENGTH makes r4 the bytes of what the loop makes first.
#define ET_PAIRS_AT_loop 72
#define ET_PAIRS_AT_aside 76
#define ET_PAIRS_AT_kept_out 84
#define ET_PAIRS_AT_first_end 92
#define ET_PAIRS_AT_part_end 96
#define ET_PAIRS_AT_part 100
#define ET_PAIRS_AT_upper_a 104
#define ET_PAIRS_AT_upper_b 112
#define ET_DSP_PAIRS_FRAME "92"
#define ET_DSP_PARTS_FRAME "120"
#define ET_DSP_PAIRS_LENGTH "ldr r0, " ET_PAIRS(columns) "\n ldr r4, " ET_PAIRS(columns_end) "\n sub r4, r4, r0\n"
#define ET_DSP_PARTS_LENGTH \
  "ldr r1, " ET_PAIRS(packed) "\n ldr r0, " ET_PAIRS(columns) "\n ldrd r4, r5, [r1], #8\n" \
  "str r1, " ET_PAIRS(packed) "\n lsl r4, r4, #2\n" \
  "add r0, r0, r4\n str r0, " ET_PAIRS(first_end) "\n lsl r5, r5, #2\n str r5, " ET_PAIRS(part) "\n"
#define ET_DSP_PAIRS_BEGIN(frame, length) \
  "push {r4-r11, lr}\n" \
  "sub sp, sp, #" frame \
  "\n" \
  "mov r12, sp\n" \
  "ldm r0!, {r1-r8}\n stm r12!, {r1-r8}\n ldm r0!, {r1-r8}\n stm r12!, {r1-r8}\n" \
  "ldm r0, {r1, r2}\n stm r12!, {r1, r2}\n" \
  "adr.w r11, 4f\n" /* the loop makes quads of k, 96 bytes of code each, and begins so that it ends with the last */ \
      length "lsr r4, r4, #4\n sub r4, r4, #1\n and r4, r4, #" ET_DSP_PAIR_TURNS \
  "\n" \
  "add r4, r4, #1\n mov r5, #96\n mls r11, r4, r5, r11\n orr r11, r11, #1\n str r11, [r12]\n" \
  "0:\n" \
  "ldr r2, " ET_PAIRS(quads) "\n ldr lr, " ET_PAIRS(table) "\n ldr r3, " ET_PAIRS(words) "\n" \
  "cmp r3, #0\n beq 15f\n" \
  "11:\n" /* a stretch by words */ \
  "ldr r3, " ET_PAIRS(bytes) "\n ldrd r0, r1, [lr]\n" \
  "subs r3, r3, #8\n blt 13f\n" \
  "12:\n" \
  "ldrd r4, r8, [r0], #8\n ldrd r5, r9, [r1], #8\n" \
  "sxtb16 r6, r4, ror #8\n sxtb16 r7, r5, ror #8\n sxtb16 r10, r8, ror #8\n sxtb16 r11, r9, ror #8\n" \
  "sxtb16 r4, r4\n sxtb16 r5, r5\n sxtb16 r8, r8\n sxtb16 r9, r9\n" \
  "subs r3, r3, #8\n" \
  "stm r2!, {r4-r11}\n" \
  "bge 12b\n" \
  "13:\n" \
  "adds r3, r3, #8\n beq 14f\n" \
  "ldr r4, [r0], #4\n ldr r5, [r1], #4\n" \
  "sxtb16 r6, r4, ror #8\n sxtb16 r7, r5, ror #8\n sxtb16 r4, r4\n sxtb16 r5, r5\n" \
  "stm r2!, {r4-r7}\n" \
  "14:\n" \
  "ldrd r4, r5, " ET_PAIRS(skip) "\n add r0, r0, r4\n add r1, r1, r4\n" \
  "strd r0, r1, [lr], #8\n" \
  "cmp lr, r5\n bne 11b\n" \
  "b 20f\n" \
  "15:\n" \
  "ldr r12, " ET_PAIRS(columns) "\n" \
  "16:\n" /* a stretch that may begin anywhere */ \
  "ldr r3, " ET_PAIRS(bytes) "\n ldrd r0, r1, [lr]\n ldr r8, " ET_PAIRS(left) "\n" \
  "cmp r3, #0\n beq 18f\n" \
  "17:\n" \
  "ldr r4, [r0], #4\n ldr r5, [r1], #4\n" \
  "sxtb16 r6, r4, ror #8\n sxtb16 r7, r5, ror #8\n sxtb16 r4, r4\n sxtb16 r5, r5\n" \
  "subs r3, r3, #4\n" \
  "stm r2!, {r4-r7}\n" \
  "bne 17b\n" \
  "18:\n" \
  "cmp r8, #0\n beq 19f\n" \
  "9:\n" /* what is left over of it: k0, k2, k1, k3 of a quad */ \
  "ldrsb r4, [r0], #1\n ldrsb r5, [r1], #1\n" \
  "and r6, r12, #2\n" \
  "strh r4, [r12]\n strh r5, [r12, #4]\n" \
  "add r12, r12, r6, lsl #1\n add r12, r12, #2\n" \
  "subs r8, r8, #1\n bne 9b\n" \
  "19:\n" \
  "ldrd r4, r5, " ET_PAIRS(skip) "\n add r0, r0, r4\n add r1, r1, r4\n" \
  "strd r0, r1, [lr], #8\n" \
  "cmp lr, r5\n bne 16b\n" \
  "20:\n" \
  "ldr r1, " ET_PAIRS(packed) "\n" \
  "ldrd r0, r12, " ET_PAIRS(columns) "\n ldr r10, " ET_PAIRS(out) "\n" \
  "cmp r10, r12\n beq.w 5f\n"
#define ET_DSP_PAIRS_SUMS \
  "1:\n" \
  "ldm r1, {r2-r5}\n ldm r1!, {r6-r9}\n" \
  "ldr pc, " ET_PAIRS(loop) "\n" \
  "2:\n" ET_DSP_PAIR_QUADS \
  "4:\n" \
  "ldr r12, " ET_PAIRS(columns_end) "\n cmp r0, r12\n bne.w 2b\n" \
  "sub r3, r3, r2\n sub r5, r5, r4\n sub r7, r7, r6\n sub r9, r9, r8\n" \
  "asr r3, r3, #8\n asr r5, r5, #8\n asr r7, r7, #8\n asr r9, r9, #8\n"
// Biases are those of the lower two channels, then of the upper two.
#define ET_DSP_PARTS_SUMS \
  "1:\n" \
  "ldm r1!, {r2-r5}\n" \
  "strd r4, r5, " ET_PAIRS(upper_a) "\n strd r4, r5, " ET_PAIRS(upper_b) "\n" \
  "mov r4, r3\n mov r5, r3\n mov r8, r3\n mov r9, r3\n mov r3, r2\n mov r6, r2\n mov r7, r2\n" \
  "ldr r12, " ET_PAIRS(first_end) "\n str r12, " ET_PAIRS(part_end) "\n" \
  "ldr pc, " ET_PAIRS(loop) "\n" \
  "2:\n" ET_DSP_PAIR_QUADS \
  "4:\n" \
  "ldr r12, " ET_PAIRS(part_end) "\n cmp r0, r12\n bne.w 2b\n" \
  "sub r3, r3, r2\n sub r5, r5, r4\n sub r7, r7, r6\n sub r9, r9, r8\n" \
  "ldrd r10, r11, " ET_PAIRS(upper_a) "\n add r3, r10, r3, asr #8\n add r5, r11, r5, asr #8\n" \
  "ldrd r10, r11, " ET_PAIRS(upper_b) "\n add r7, r10, r7, asr #8\n add r9, r11, r9, asr #8\n" \
  "ldr lr, " ET_PAIRS(columns_end) "\n cmp r12, lr\n beq 21f\n" \
  "strd r3, r5, " ET_PAIRS(upper_a) "\n strd r7, r9, " ET_PAIRS(upper_b) "\n" \
  "mov r3, r2\n mov r5, r4\n mov r7, r6\n mov r9, r8\n" \
  "ldr lr, " ET_PAIRS(part) "\n add r12, r12, lr\n str r12, " ET_PAIRS(part_end) "\n" \
  "b.w 2b\n" \
  "21:\n"
// A byte for each channel: by how much sums go to the left.
#define ET_DSP_PAIRS_SHIFT                                 \
  "ldr r10, [r1], #4\n cmp r10, #0\n beq 22f\n"            \
  "lsl r2, r2, r10\n lsl r6, r6, r10\n lsr r10, r10, #8\n" \
  "lsl r3, r3, r10\n lsl r7, r7, r10\n lsr r10, r10, #8\n" \
  "lsl r4, r4, r10\n lsl r8, r8, r10\n lsr r10, r10, #8\n" \
  "lsl r5, r5, r10\n lsl r9, r9, r10\n"                    \
  "22:\n"
#define ET_DSP_PAIRS_NEAREST \
  "ldm r1!, {r10, r11, r12, lr}\n" \
  "ldr r0, " ET_PAIRS(zero_point) "\n" \
  "smmlar r2, r2, r10, r0\n smmlar r3, r3, r11, r0\n smmlar r4, r4, r12, r0\n smmlar r5, r5, lr, r0\n" \
  "smmlar r6, r6, r10, r0\n smmlar r7, r7, r11, r0\n smmlar r8, r8, r12, r0\n smmlar r9, r9, lr, r0\n"
#define ET_DSP_PAIRS_TWICE \
  "ldr r0, " ET_PAIRS(zero_point) "\n" \
  "ldm r1!, {r10, r11, r12, lr}\n" ET_DSP_TWICE("r2", "r10", "r11", "r0") ET_DSP_TWICE("r6", "r10", "r11", "r0") \
      ET_DSP_TWICE("r3", "r12", "lr", "r0") ET_DSP_TWICE( \
          "r7", "r12", "lr", "r0") "ldm r1!, {r10, r11, r12, lr}\n" ET_DSP_TWICE("r4", "r10", "r11", "r0") \
          ET_DSP_TWICE("r8", "r10", "r11", "r0") ET_DSP_TWICE("r5", "r12", "lr", "r0") \
              ET_DSP_TWICE("r9", "r12", "lr", "r0")
#define ET_DSP_PAIRS_END(frame) \
  "ssat r2, #8, r2\n ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n" \
  "ssat r6, #8, r6\n ssat r7, #8, r7\n ssat r8, #8, r8\n ssat r9, #8, r9\n" \
  "ldrd r10, r11, " ET_PAIRS(out) "\n" \
  "strb r6, [r10, r11]\n strb r2, [r10], #1\n strb r7, [r10, r11]\n strb r3, [r10], #1\n" \
  "strb r8, [r10, r11]\n strb r4, [r10], #1\n strb r9, [r10, r11]\n strb r5, [r10], #1\n" \
  "ldrd r0, r12, " ET_PAIRS(columns) "\n" \
  "str r10, " ET_PAIRS(out) "\n" \
  "cmp r10, r12\n bne.w 1b\n" \
  "5:\n" \
  "ldr r2, " ET_PAIRS(out_left) "\n cmp r2, #0\n bne 7f\n" \
  "6:\n" \
  "ldrd r2, r3, " ET_PAIRS(out_skip) "\n add r2, r10, r2\n add r3, r10, r3\n strd r3, r2, " ET_PAIRS(out_end) "\n" \
  "ldr r4, " ET_PAIRS(pairs) "\n subs r4, r4, #1\n str r4, " ET_PAIRS(pairs) "\n bne.w 0b\n" \
  "add sp, sp, #" frame \
  "\n" \
  "pop {r4-r11, pc}\n" \
  "7:\n" /* the channels that are left: a block of which some count */ \
  "add r3, sp, #" ET_TEXT(ET_PAIRS_AT_aside) " + 4\n cmp r10, r3\n beq 8f\n" \
  "ldr r4, " ET_PAIRS(out_step) "\n strd r10, r4, " ET_PAIRS(kept_out) "\n" \
  "add r10, sp, #" ET_TEXT(ET_PAIRS_AT_aside) "\n mov r11, #4\n" \
  "strd r10, r11, " ET_PAIRS(out) "\n str r3, " ET_PAIRS(out_end) "\n" \
  "b.w 1b\n" \
  "8:\n" \
  "ldrd r10, r11, " ET_PAIRS(kept_out) "\n str r11, " ET_PAIRS(out_step) "\n" \
  "sub r3, r3, #4\n mov r4, r2\n" \
  "10:\n" \
  "ldrb r6, [r3, #4]\n ldrb r5, [r3], #1\n" \
  "strb r6, [r10, r11]\n strb r5, [r10], #1\n" \
  "subs r4, r4, #1\n bne 10b\n" \
  "sub r10, r10, r2\n" \
  "b 6b\n"

__attribute__((naked, noipa, aligned(4))) inline void pairs_nearest(const Pairs8* /*run*/) {
  asm volatile(ET_DSP_PAIRS_BEGIN(ET_DSP_PAIRS_FRAME, ET_DSP_PAIRS_LENGTH)
                   ET_DSP_PAIRS_SUMS ET_DSP_PAIRS_NEAREST ET_DSP_PAIRS_END(ET_DSP_PAIRS_FRAME));
}

__attribute__((naked, noipa, aligned(4))) inline void pairs_twice(const Pairs8* /*run*/) {
  asm volatile(ET_DSP_PAIRS_BEGIN(ET_DSP_PAIRS_FRAME, ET_DSP_PAIRS_LENGTH)
                   ET_DSP_PAIRS_SUMS ET_DSP_PAIRS_TWICE ET_DSP_PAIRS_END(ET_DSP_PAIRS_FRAME));
}

__attribute__((naked, noipa, aligned(4))) inline void pairs_nearest_parts(const Pairs8* /*run*/) {
  asm volatile(ET_DSP_PAIRS_BEGIN(ET_DSP_PARTS_FRAME, ET_DSP_PARTS_LENGTH)
                   ET_DSP_PARTS_SUMS ET_DSP_PAIRS_SHIFT ET_DSP_PAIRS_NEAREST ET_DSP_PAIRS_END(ET_DSP_PARTS_FRAME));
}

__attribute__((naked, noipa, aligned(4))) inline void pairs_twice_parts(const Pairs8* /*run*/) {
  asm volatile(ET_DSP_PAIRS_BEGIN(ET_DSP_PARTS_FRAME, ET_DSP_PARTS_LENGTH)
                   ET_DSP_PARTS_SUMS ET_DSP_PAIRS_TWICE ET_DSP_PAIRS_END(ET_DSP_PARTS_FRAME));
}

template <Paired8 kPaired>
inline void pairs(const Pairs8& run) {
  if constexpr (kPaired == Paired8::kNearest) {
    pairs_nearest(&run);
  } else if constexpr (kPaired == Paired8::kTwice) {
    pairs_twice(&run);
  } else if constexpr (kPaired == Paired8::kNearestParts) {
    pairs_nearest_parts(&run);
  } else {
    pairs_twice_parts(&run);
  }
}

// What the core for one column reads beside its pointers; the assembly knows the order. first, part: bytes of x in the
// first part and in each other one.
struct Block8 {
  int32_t x_bytes, blocks, out_step, zero_point, first, part;
};
ET_WORD(Block8, x_bytes, 0);
ET_WORD(Block8, blocks, 1);
ET_WORD(Block8, out_step, 2);
ET_WORD(Block8, zero_point, 3);
ET_WORD(Block8, first, 4);
ET_WORD(Block8, part, 5);

// One column without gaps; `bytes` is not 0.
__attribute__((naked, noipa)) inline int16_t* expand_one(const int8_t* /*x*/, int16_t* /*out*/, int32_t /*bytes*/) {
  asm volatile(
      "push {r4, lr}\n"
      "1:\n"
      "ldr r12, [r0], #4\n"
      "sxtb16 r3, r12\n sxtb16 r4, r12, ror #8\n"
      "subs r2, r2, #4\n"
      "stm r1!, {r3, r4}\n"
      "bne 1b\n"
      "mov r0, r1\n"
      "pop {r4, pc}\n");
}

// 4 k of 4 channels and one column: lower sums r2, r4; sums of both r3, r5.
#define ET_DSP_ONE                                                                                  \
  "ldm r1!, {r6-r9}\n ldrd r10, r11, [r0], #8\n"                                                    \
  "smlad r3, r10, r6, r3\n smlad r5, r10, r7, r5\n smlad r3, r11, r8, r3\n smlad r5, r11, r9, r5\n" \
  "sxtb16 r6, r6\n sxtb16 r7, r7\n sxtb16 r8, r8\n sxtb16 r9, r9\n"                                 \
  "smlad r2, r10, r6, r2\n smlad r4, r10, r7, r4\n smlad r2, r11, r8, r2\n smlad r4, r11, r9, r4\n"

// The frame: x, output, blocks, zero point, where the loop begins; with parts also the upper sums so far, the end of
// the first part, the bytes of a part and the end of the column. LENGTH leaves the bytes of what the loop makes first
// in r4.
#define ET_ONE_AT_x 0
#define ET_ONE_AT_out 4
#define ET_ONE_AT_blocks 8
#define ET_ONE_AT_zero_point 12
#define ET_ONE_AT_loop 16
#define ET_ONE_AT_upper 20
#define ET_ONE_AT_first_end 28
#define ET_ONE_AT_part 32
#define ET_ONE_AT_end 36
#define ET_ONE(place) ET_IN_FRAME(ET_ONE_AT_##place)
#define ET_DSP_ONE_LENGTH "add r12, r4, r0\n"
#define ET_DSP_ONE_PARTS_LENGTH "add r12, r4, r0\n ldrd r4, r9, [r3, #16]\n"
#define ET_DSP_ONE_BEGIN(length)                                     \
  "push {r4-r11, lr}\n"                                              \
  "ldm r3, {r4-r7}\n" length                                         \
  "adr.w r11, 4f\n" /* as above, with 56 bytes of code each */       \
  "lsr r8, r4, #3\n sub r8, r8, #1\n and r8, r8, #" ET_DSP_ONE_TURNS \
  "\n add r8, r8, #1\n"                                              \
  "mov r6, #56\n mls r11, r8, r6, r11\n"                             \
  "orr r11, r11, #1\n"
#define ET_DSP_ONE_SUMS \
  "push {r0, r2, r5, r7, r11}\n" \
  "1:\n" \
  "ldm r1!, {r2-r5}\n" \
  "ldr pc, " ET_ONE(loop) "\n" \
  "2:\n" ET_DSP_ONE_QUADS \
  "4:\n" \
  "cmp r0, r12\n bne.w 2b\n" \
  "sub r3, r3, r2\n sub r5, r5, r4\n" \
  "asr r3, r3, #8\n asr r5, r5, #8\n"
#define ET_DSP_ONE_PARTS_SUMS \
  "sub sp, sp, #20\n" \
  "push {r0, r2, r5, r7, r11}\n" \
  "add r4, r4, r0\n strd r4, r9, " ET_ONE(first_end) "\n str r12, " ET_ONE(end) "\n" \
  "1:\n" \
  "ldm r1!, {r2-r5}\n" \
  "strd r4, r5, " ET_ONE(upper) "\n" \
  "mov r4, r3\n mov r5, r3\n mov r3, r2\n" \
  "ldr r12, " ET_ONE(first_end) "\n" \
  "ldr pc, " ET_ONE(loop) "\n" \
  "2:\n" ET_DSP_ONE_QUADS \
  "4:\n" \
  "cmp r0, r12\n bne.w 2b\n" \
  "sub r3, r3, r2\n sub r5, r5, r4\n" \
  "ldrd r10, r11, " ET_ONE(upper) "\n add r3, r10, r3, asr #8\n add r5, r11, r5, asr #8\n" \
  "ldr lr, " ET_ONE(end) "\n cmp r12, lr\n beq 21f\n" \
  "strd r3, r5, " ET_ONE(upper) "\n mov r3, r2\n mov r5, r4\n" \
  "ldr lr, " ET_ONE(part) "\n add r12, r12, lr\n" \
  "b.w 2b\n" \
  "21:\n"
#define ET_DSP_ONE_SHIFT                        \
  "ldr r10, [r1], #4\n cmp r10, #0\n beq 22f\n" \
  "lsl r2, r2, r10\n lsr r10, r10, #8\n"        \
  "lsl r3, r3, r10\n lsr r10, r10, #8\n"        \
  "lsl r4, r4, r10\n lsr r10, r10, #8\n"        \
  "lsl r5, r5, r10\n"                           \
  "22:\n"
#define ET_DSP_ONE_NEAREST \
  "ldm r1!, {r6-r9}\n" \
  "ldr r10, " ET_ONE(zero_point) "\n ldr r11, " ET_ONE(out) "\n" \
  "smmlar r2, r2, r6, r10\n smmlar r3, r3, r7, r10\n smmlar r4, r4, r8, r10\n smmlar r5, r5, r9, r10\n"
#define ET_DSP_ONE_TWICE \
  "ldr r0, " ET_ONE(zero_point) "\n ldr r11, " ET_ONE(out) "\n" \
  "ldm r1!, {r6-r9}\n" ET_DSP_TWICE("r2", "r6", "r7", "r0") \
      ET_DSP_TWICE("r3", "r8", "r9", "r0") "ldm r1!, {r6-r9}\n" ET_DSP_TWICE("r4", "r6", "r7", "r0") \
          ET_DSP_TWICE("r5", "r8", "r9", "r0")
#define ET_DSP_ONE_END(frame) \
  "ssat r2, #8, r2\n ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n" \
  "strb r2, [r11], #1\n strb r3, [r11], #1\n strb r4, [r11], #1\n strb r5, [r11], #1\n" \
  "ldr r6, " ET_ONE(blocks) "\n ldr r0, " ET_ONE(x) "\n" \
  "str r11, " ET_ONE(out) "\n" \
  "subs r6, r6, #1\n str r6, " ET_ONE(blocks) "\n" \
  "bne.w 1b\n" \
  "add sp, sp, #" frame \
  "\n" \
  "pop {r4-r11, pc}\n"

__attribute__((naked, noipa, aligned(4))) inline void columns_one(const int16_t* /*x*/, const int8_t* /*packed*/,
                                                                  int8_t* /*out*/, const Block8* /*block*/) {
  asm volatile(ET_DSP_ONE_BEGIN(ET_DSP_ONE_LENGTH) ET_DSP_ONE_SUMS ET_DSP_ONE_NEAREST ET_DSP_ONE_END("20"));
}

__attribute__((naked, noipa, aligned(4))) inline void columns_one_twice(const int16_t* /*x*/, const int8_t* /*packed*/,
                                                                        int8_t* /*out*/, const Block8* /*block*/) {
  asm volatile(ET_DSP_ONE_BEGIN(ET_DSP_ONE_LENGTH) ET_DSP_ONE_SUMS ET_DSP_ONE_TWICE ET_DSP_ONE_END("20"));
}

__attribute__((naked, noipa, aligned(4))) inline void columns_one_parts(const int16_t* /*x*/, const int8_t* /*packed*/,
                                                                        int8_t* /*out*/, const Block8* /*block*/) {
  asm volatile(ET_DSP_ONE_BEGIN(ET_DSP_ONE_PARTS_LENGTH)
                   ET_DSP_ONE_PARTS_SUMS ET_DSP_ONE_SHIFT ET_DSP_ONE_NEAREST ET_DSP_ONE_END("40"));
}

__attribute__((naked, noipa, aligned(4))) inline void columns_one_twice_parts(const int16_t* /*x*/,
                                                                              const int8_t* /*packed*/, int8_t* /*out*/,
                                                                              const Block8* /*block*/) {
  asm volatile(ET_DSP_ONE_BEGIN(ET_DSP_ONE_PARTS_LENGTH) ET_DSP_ONE_PARTS_SUMS ET_DSP_ONE_TWICE ET_DSP_ONE_END("40"));
}

// The C library for small chips moves byte by byte. Words may lie anywhere here.
struct WordBytes {
  static __attribute__((naked, noipa)) void copy(int8_t* /*to*/, const int8_t* /*from*/, int32_t /*count*/) {
    asm volatile(
        "subs r2, r2, #4\n"
        "blt 2f\n"
        "1:\n"
        "ldr r3, [r1], #4\n"
        "subs r2, r2, #4\n"
        "str r3, [r0], #4\n"
        "bge 1b\n"
        "2:\n"
        "adds r2, r2, #4\n"
        "beq 4f\n"
        "3:\n"
        "ldrb r3, [r1], #1\n"
        "subs r2, r2, #1\n"
        "strb r3, [r0], #1\n"
        "bne 3b\n"
        "4:\n"
        "bx lr\n");
  }

  static __attribute__((naked, noipa)) void fill(int8_t* /*to*/, int32_t /*value*/, int32_t /*count*/) {
    asm volatile(
        "uxtb r1, r1\n"
        "orr r1, r1, r1, lsl #8\n"
        "orr r1, r1, r1, lsl #16\n"
        "subs r2, r2, #4\n"
        "blt 2f\n"
        "1:\n"
        "str r1, [r0], #4\n"
        "subs r2, r2, #4\n"
        "bge 1b\n"
        "2:\n"
        "adds r2, r2, #4\n"
        "beq 4f\n"
        "3:\n"
        "strb r1, [r0], #1\n"
        "subs r2, r2, #1\n"
        "bne 3b\n"
        "4:\n"
        "bx lr\n");
  }
};

// What a row of a window that reaches out of the image is put together from: zero points, bytes from `offset` on, zero
// points. The assembly knows the order.
struct Edge8 {
  int32_t offset, before, inside, after, zero, rows;
};
ET_WORD(Edge8, offset, 0);
ET_WORD(Edge8, before, 1);
ET_WORD(Edge8, inside, 2);
ET_WORD(Edge8, after, 3);
ET_WORD(Edge8, zero, 4);
ET_WORD(Edge8, rows, 5);

// Such rows, one behind the other.
__attribute__((naked, noipa)) inline void gather_rows(int8_t* /*to*/, const int8_t* const* /*rows*/,
                                                      const Edge8* /*edge*/) {
  asm volatile(
      "push {r4-r10, lr}\n"
      "ldm r2, {r3-r8}\n"
      "1:\n"
      "ldr r9, [r1], #4\n"
      "movs r10, r4\n"
      "add r9, r9, r3\n"
      "beq 3f\n"
      "2:\n"
      "strb r7, [r0], #1\n"
      "subs r10, r10, #1\n"
      "bne 2b\n"
      "3:\n"
      "subs r10, r5, #4\n"
      "blt 5f\n"
      "4:\n"
      "ldr r2, [r9], #4\n"
      "subs r10, r10, #4\n"
      "str r2, [r0], #4\n"
      "bge 4b\n"
      "5:\n"
      "adds r10, r10, #4\n"
      "beq 7f\n"
      "6:\n"
      "ldrb r2, [r9], #1\n"
      "subs r10, r10, #1\n"
      "strb r2, [r0], #1\n"
      "bne 6b\n"
      "7:\n"
      "movs r10, r6\n"
      "beq 9f\n"
      "8:\n"
      "strb r7, [r0], #1\n"
      "subs r10, r10, #1\n"
      "bne 8b\n"
      "9:\n"
      "subs r8, r8, #1\n"
      "bne 1b\n"
      "pop {r4-r10, pc}\n");
}

// Bounds within int8, after the cores have saturated to int8.
inline void clamp_bytes(const Store8& store, int8_t* out, int32_t bytes) {
  if (store.low != -128 || store.high != 127) {
    clamp4(out, bytes, store.low, store.high);
  }
}

// Bytes of a block of 4 outputs in the packed weights, without those of the weights.
template <Paired8 kPaired>
constexpr int32_t kPairedBytes = kPaired == Paired8::kNearest        ? 32
                                 : kPaired == Paired8::kNearestParts ? 36
                                                                     : 48;

// One column of bytes; `wide` has room for twice as many.
template <Paired8 kPaired>
__attribute__((noinline)) void column_dsp(const Store8& store, int32_t elements, int32_t outputs, int8_t* out,
                                          const int8_t* x, int16_t* wide, const int8_t* packed) {
  const auto core = [wide](const int8_t* weights, int8_t* to, const Block8& block) {
    if constexpr (kPaired == Paired8::kNearest) {
      columns_one(wide, weights, to, &block);
    } else if constexpr (kPaired == Paired8::kTwice) {
      columns_one_twice(wide, weights, to, &block);
    } else if constexpr (kPaired == Paired8::kNearestParts) {
      columns_one_parts(wide, weights, to, &block);
    } else {
      columns_one_twice_parts(wide, weights, to, &block);
    }
  };
  expand_one(x, wide, elements);
  const int32_t whole = outputs & ~3;
  Block8 block;
  block.x_bytes = 2 * elements;
  block.blocks = whole / 4;
  block.out_step = outputs;
  block.zero_point = store.zero_point;
  if constexpr (in_parts(kPaired)) {
    const int32_t* const parts = reinterpret_cast<const int32_t*>(packed);
    block.first = 2 * parts[0];
    block.part = 2 * parts[1];
    packed += 8;
  }
  if (whole > 0) {
    core(packed, out, block);
  }
  if (whole < outputs) {  // 4 are computed
    int8_t results[4];
    block.blocks = 1;
    core(packed + whole / 4 * (kPairedBytes<kPaired> + 4 * elements), results, block);
    WordBytes::copy(out + whole, results, outputs - whole);  // of a loop the compiler makes a call of memcpy: 308 bytes
  }
  clamp_bytes(store, out, outputs);
}

}  // namespace et
