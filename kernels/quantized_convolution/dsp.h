// int8 convolution on Armv7E-M with DSP instructions (Cortex-M4, M7, M33): Paired's bytes, the same results.
//
// A core makes 4 channels of two columns (or of one) in registers, from an int16 column in scratch and the packed
// stream, which it reads from first to last; it loops over the blocks of channels by itself and stores bytes.
// Instructions a multiply-accumulate, in the loop: two columns 0.80 (12 for 16, and 3 for 64: 8 accumulators, 2 x 2
// operands, 2 pointers use all 14 registers), one column 0.94.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "quantized_convolution/dense.h"

namespace et {

// What the cores read beside their pointers; the assembly knows the order.
struct Block8 {
  int32_t x_bytes, blocks, out_step, zero_point;
};

// `rows` stretches of `bytes` bytes of two columns; from the end of one to the start of the next it is so many bytes.
struct Stretches {
  int32_t bytes, rows, skip_a, skip_b;
};

// Bytes to int16 pairs (k0, k2), (k1, k3) for each 4 bytes of two columns in turn; returns the end of what it wrote. 9
// instructions for 8 bytes. `bytes` is a multiple of 4.
__attribute__((naked, noipa)) inline int16_t* expand_two(const int8_t* /*a*/, const int8_t* /*b*/, int16_t* /*out*/,
                                                         const Stretches* /*stretches*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldm r3, {r8-r11}\n"
      "cmp r8, #0\n beq 3f\n"
      "1:\n"
      "mov r3, r8\n"
      "2:\n"
      "ldr r12, [r0], #4\n ldr lr, [r1], #4\n"
      "sxtb16 r4, r12\n sxtb16 r5, lr\n sxtb16 r6, r12, ror #8\n sxtb16 r7, lr, ror #8\n"
      "subs r3, r3, #4\n"
      "stm r2!, {r4-r7}\n"
      "bne 2b\n"
      "add r0, r0, r10\n add r1, r1, r11\n"
      "subs r9, r9, #1\n bne 1b\n"
      "3:\n"
      "mov r0, r2\n"
      "pop {r4-r11, pc}\n");
}

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

// The stretches of two columns without their gaps, column b `distance` bytes behind column a.
__attribute__((naked, noipa)) inline void pick_two(const int8_t* /*a*/, const int8_t* /*b*/, int8_t* /*out*/,
                                                   const Stretches* /*stretches*/, int32_t /*distance*/) {
  asm volatile(
      "push {r4-r10, lr}\n"
      "ldm r3, {r7-r10}\n"
      "ldr r6, [sp, #32]\n"
      "1:\n"
      "mov r3, r7\n"
      "2:\n"
      "ldrb r4, [r0], #1\n ldrb r5, [r1], #1\n"
      "subs r3, r3, #1\n"
      "strb r5, [r2, r6]\n strb r4, [r2], #1\n"
      "bne 2b\n"
      "add r0, r0, r9\n add r1, r1, r10\n"
      "subs r8, r8, #1\n bne 1b\n"
      "pop {r4-r10, pc}\n");
}

// 2 k of 4 channels and 2 columns: lower sums r2, r4 (first column), r6, r8 (second); sums of both r3, r5, r7, r9.
#define ET_DSP_TWO                                     \
  "ldrd r10, r11, [r1], #8\n ldrd r12, lr, [r0], #8\n" \
  "smlad r3, r12, r10, r3\n smlad r7, lr, r10, r7\n"   \
  "smlad r5, r12, r11, r5\n smlad r9, lr, r11, r9\n"   \
  "sxtb16 r10, r10\n sxtb16 r11, r11\n"                \
  "smlad r2, r12, r10, r2\n smlad r6, lr, r10, r6\n"   \
  "smlad r4, r12, r11, r4\n smlad r8, lr, r11, r8\n"

// The rest of the two cores below. NEAREST and TWICE scale the sums: the house's rule, and TFLite's, where r0 is the
// zero point, a doubled high multiply by m comes first, and k = 2^(32 - right shift) rounds ties away from zero.
#define ET_DSP_TWICE(r, m, k)                                                                                      \
  "lsl " r ", " r ", #1\n smmulr " r ", " r ", " m "\n add " r ", " r ", " r ", asr #31\n smmlar " r ", " r ", " k \
  ", r0\n"
#define ET_DSP_TWO_BEGIN                                                                                               \
  "push {r4-r11, lr}\n"                                                                                                \
  "ldm r3, {r4-r7}\n"                                                                                                  \
  "add r4, r4, r0\n" /* end of x */                                                                                    \
  "mov r8, r2\n"                                                                                                       \
  "add r9, r2, r6\n"                                                                                                   \
  "mov r10, r5\n"                                                                                                      \
  "sub sp, sp, #28\n"                                                                                                  \
  "stm sp, {r0, r4, r7, r8, r9, r10}\n" /* x, its end, zero point, two outputs, blocks */                              \
  "adr.w r11, 4f\n" /* the loop makes 4 quads of k, 96 bytes of code each, and begins so that it ends with the last */ \
  "sub r4, r4, r0\n lsr r4, r4, #4\n sub r4, r4, #1\n and r4, r4, #3\n add r4, r4, #1\n"                               \
  "mov r5, #96\n mls r11, r4, r5, r11\n"                                                                               \
  "orr r11, r11, #1\n str r11, [sp, #24]\n"                                                                            \
  "1:\n"                                                                                                               \
  "ldm r1!, {r2-r5}\n"                                                                                                 \
  "mov r6, r2\n mov r7, r3\n mov r8, r4\n mov r9, r5\n"                                                                \
  "ldr pc, [sp, #24]\n"                                                                                                \
  "2:\n" ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO                       \
  "4:\n"                                                                                                               \
  "ldr r12, [sp, #4]\n cmp r0, r12\n bne.w 2b\n"                                                                       \
  "sub r3, r3, r2\n sub r5, r5, r4\n sub r7, r7, r6\n sub r9, r9, r8\n"
#define ET_DSP_TWO_NEAREST                                                                             \
  "ldm r1!, {r10, r11, r12, lr}\n"                                                                     \
  "asr r3, r3, #8\n asr r5, r5, #8\n asr r7, r7, #8\n asr r9, r9, #8\n"                                \
  "ldr r0, [sp, #8]\n"                                                                                 \
  "smmlar r2, r2, r10, r0\n smmlar r3, r3, r11, r0\n smmlar r4, r4, r12, r0\n smmlar r5, r5, lr, r0\n" \
  "smmlar r6, r6, r10, r0\n smmlar r7, r7, r11, r0\n smmlar r8, r8, r12, r0\n smmlar r9, r9, lr, r0\n"
#define ET_DSP_TWO_TWICE                                                                                    \
  "asr r3, r3, #8\n asr r5, r5, #8\n asr r7, r7, #8\n asr r9, r9, #8\n"                                     \
  "ldr r0, [sp, #8]\n"                                                                                      \
  "ldm r1!, {r10, r11, r12, lr}\n" ET_DSP_TWICE("r2", "r10", "r11") ET_DSP_TWICE("r6", "r10", "r11")        \
      ET_DSP_TWICE("r3", "r12", "lr")                                                                       \
          ET_DSP_TWICE("r7", "r12", "lr") "ldm r1!, {r10, r11, r12, lr}\n" ET_DSP_TWICE("r4", "r10", "r11") \
              ET_DSP_TWICE("r8", "r10", "r11") ET_DSP_TWICE("r5", "r12", "lr") ET_DSP_TWICE("r9", "r12", "lr")
#define ET_DSP_TWO_END                                                                  \
  "ssat r2, #8, r2\n ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n"             \
  "ssat r6, #8, r6\n ssat r7, #8, r7\n ssat r8, #8, r8\n ssat r9, #8, r9\n"             \
  "ldrd r10, r11, [sp, #12]\n"                                                          \
  "strb r2, [r10], #1\n strb r3, [r10], #1\n strb r4, [r10], #1\n strb r5, [r10], #1\n" \
  "strb r6, [r11], #1\n strb r7, [r11], #1\n strb r8, [r11], #1\n strb r9, [r11], #1\n" \
  "ldr r12, [sp, #20]\n ldr r0, [sp]\n"                                                 \
  "strd r10, r11, [sp, #12]\n"                                                          \
  "subs r12, r12, #1\n str r12, [sp, #20]\n"                                            \
  "bne.w 1b\n"                                                                          \
  "add sp, sp, #28\n"                                                                   \
  "pop {r4-r11, pc}\n"

// `blocks` x 4 channels of two columns; the second column's bytes lie out_step behind the first one's.
__attribute__((naked, noipa)) inline void columns_two(const int16_t* /*x*/, const int8_t* /*packed*/, int8_t* /*out*/,
                                                      const Block8* /*block*/) {
  asm volatile(ET_DSP_TWO_BEGIN ET_DSP_TWO_NEAREST ET_DSP_TWO_END);
}

__attribute__((naked, noipa)) inline void columns_two_twice(const int16_t* /*x*/, const int8_t* /*packed*/,
                                                            int8_t* /*out*/, const Block8* /*block*/) {
  asm volatile(ET_DSP_TWO_BEGIN ET_DSP_TWO_TWICE ET_DSP_TWO_END);
}

// 4 k of 4 channels and one column: lower sums r2, r4; sums of both r3, r5.
#define ET_DSP_ONE                                                                                  \
  "ldm r1!, {r6-r9}\n ldrd r10, r11, [r0], #8\n"                                                    \
  "smlad r3, r10, r6, r3\n smlad r5, r10, r7, r5\n smlad r3, r11, r8, r3\n smlad r5, r11, r9, r5\n" \
  "sxtb16 r6, r6\n sxtb16 r7, r7\n sxtb16 r8, r8\n sxtb16 r9, r9\n"                                 \
  "smlad r2, r10, r6, r2\n smlad r4, r10, r7, r4\n smlad r2, r11, r8, r2\n smlad r4, r11, r9, r4\n"

#define ET_DSP_ONE_BEGIN                                                                    \
  "push {r4-r11, lr}\n"                                                                     \
  "ldm r3, {r4-r7}\n"                                                                       \
  "add r12, r4, r0\n"                                                                       \
  "adr.w r11, 4f\n" /* as above, with 56 bytes of code each */                              \
  "lsr r4, r4, #3\n sub r4, r4, #1\n and r4, r4, #3\n add r4, r4, #1\n"                     \
  "mov r6, #56\n mls r11, r4, r6, r11\n"                                                    \
  "orr r11, r11, #1\n"                                                                      \
  "push {r0, r2, r5, r7, r11}\n" /* x, output, blocks, zero point, where the loop begins */ \
  "1:\n"                                                                                    \
  "ldm r1!, {r2-r5}\n"                                                                      \
  "ldr pc, [sp, #16]\n"                                                                     \
  "2:\n" ET_DSP_ONE ET_DSP_ONE ET_DSP_ONE ET_DSP_ONE                                        \
  "4:\n"                                                                                    \
  "cmp r0, r12\n bne.w 2b\n"                                                                \
  "sub r3, r3, r2\n sub r5, r5, r4\n"
#define ET_DSP_ONE_NEAREST                   \
  "ldm r1!, {r6-r9}\n"                       \
  "asr r3, r3, #8\n asr r5, r5, #8\n"        \
  "ldr r10, [sp, #12]\n ldr r11, [sp, #4]\n" \
  "smmlar r2, r2, r6, r10\n smmlar r3, r3, r7, r10\n smmlar r4, r4, r8, r10\n smmlar r5, r5, r9, r10\n"
#define ET_DSP_ONE_TWICE                                                                 \
  "asr r3, r3, #8\n asr r5, r5, #8\n"                                                    \
  "ldr r0, [sp, #12]\n ldr r11, [sp, #4]\n"                                              \
  "ldm r1!, {r6-r9}\n" ET_DSP_TWICE("r2", "r6", "r7")                                    \
      ET_DSP_TWICE("r3", "r8", "r9") "ldm r1!, {r6-r9}\n" ET_DSP_TWICE("r4", "r6", "r7") \
          ET_DSP_TWICE("r5", "r8", "r9")
#define ET_DSP_ONE_END                                                                  \
  "ssat r2, #8, r2\n ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n"             \
  "strb r2, [r11], #1\n strb r3, [r11], #1\n strb r4, [r11], #1\n strb r5, [r11], #1\n" \
  "ldr r6, [sp, #8]\n ldr r0, [sp]\n"                                                   \
  "str r11, [sp, #4]\n"                                                                 \
  "subs r6, r6, #1\n str r6, [sp, #8]\n"                                                \
  "bne.w 1b\n"                                                                          \
  "add sp, sp, #20\n"                                                                   \
  "pop {r4-r11, pc}\n"

__attribute__((naked, noipa)) inline void columns_one(const int16_t* /*x*/, const int8_t* /*packed*/, int8_t* /*out*/,
                                                      const Block8* /*block*/) {
  asm volatile(ET_DSP_ONE_BEGIN ET_DSP_ONE_NEAREST ET_DSP_ONE_END);
}

__attribute__((naked, noipa)) inline void columns_one_twice(const int16_t* /*x*/, const int8_t* /*packed*/,
                                                            int8_t* /*out*/, const Block8* /*block*/) {
  asm volatile(ET_DSP_ONE_BEGIN ET_DSP_ONE_TWICE ET_DSP_ONE_END);
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

// Bounds within int8, after the cores have saturated to int8.
inline __attribute__((noinline)) void clamp_bytes(const Store8& store, int8_t* out, int32_t bytes) {
  if (store.low == -128 && store.high == 127) {
    return;
  }
  const int32_t low = store.low;
  const int32_t high = store.high;
  for (int32_t i = 0; i < bytes; ++i) {
    out[i] = saturated(out[i], low, high);
  }
}

// How a layer's columns become stored results, one or two at a time.
template <bool kTwice>
class ColumnStore {
 public:
  ColumnStore(int32_t elements, int32_t outputs, int32_t zero_point, const int8_t* packed, const int16_t* x)
      : block_{4 * elements, outputs / 4, outputs, zero_point}, outputs_(outputs), packed_(packed), x_(x) {}

  void two(int8_t* out) {
    if (block_.blocks > 0) {
      core_two(x_, packed_, out, &block_);
    }
    if (outputs_ % 4 != 0) {
      last(out, 2);
    }
  }

  void one(int8_t* out) {
    block_.x_bytes /= 2;
    if (block_.blocks > 0) {
      core_one(x_, packed_, out, &block_);
    }
    if (outputs_ % 4 != 0) {
      last(out, 1);
    }
    block_.x_bytes *= 2;
  }

 private:
  static void core_two(const int16_t* x, const int8_t* packed, int8_t* out, const Block8* block) {
    if constexpr (kTwice) {
      columns_two_twice(x, packed, out, block);
    } else {
      columns_two(x, packed, out, block);
    }
  }

  static void core_one(const int16_t* x, const int8_t* packed, int8_t* out, const Block8* block) {
    if constexpr (kTwice) {
      columns_one_twice(x, packed, out, block);
    } else {
      columns_one(x, packed, out, block);
    }
  }

  // The channels after the last whole block: 4 are computed.
  __attribute__((noinline)) void last(int8_t* out, int32_t columns) {
    int8_t results[8];
    const int32_t whole = outputs_ / 4;
    const Block8 block = {block_.x_bytes, 1, 4, block_.zero_point};
    const int8_t* const packed = packed_ + whole * ((kTwice ? 48 : 32) + block_.x_bytes * 2 / columns);
    if (columns == 2) {
      core_two(x_, packed, results, &block);
    } else {
      core_one(x_, packed, results, &block);
    }
    for (int32_t column = 0; column < columns; ++column) {
      for (int32_t c = 4 * whole; c < outputs_; ++c) {
        out[column * outputs_ + c] = results[4 * column + c - 4 * whole];
      }
    }
  }

  Block8 block_;
  int32_t outputs_;
  const int8_t* packed_;
  const int16_t* x_;
};

// A column of bytes with room for twice as many behind it: a core as `dense.h` has them.
template <bool kTwice>
struct PairedDsp {
  using Bytes = WordBytes;

  static void column(const Store8& store, int32_t elements, int32_t outputs, int8_t* out, int8_t* x,
                     const int8_t* packed) {
    int16_t* const wide = reinterpret_cast<int16_t*>(x + elements);
    expand_one(x, wide, elements);
    ColumnStore<kTwice>(elements, outputs, store.zero_point, packed, wide).one(out);
    clamp_bytes(store, out, outputs);
  }
};

// Two windows of the image, or gathered ones, as a pair of columns in scratch: 4 * elements bytes for it, then the
// bytes that the rows of both windows leave over after whole quads.
class WindowPair {
 public:
  WindowPair(const Convolution8& layer, int16_t* columns)
      : run_(layer.kernel_width * layer.inputs),
        whole_(run_ / 4 * 4),
        tail_(((run_ - whole_) * layer.kernel_height + 3) / 4 * 4),
        quads_{whole_, layer.kernel_height, 0, 0},
        rest_{run_ - whole_, layer.kernel_height, 0, 0},
        tails_{tail_, 1, 0, 0},
        columns_(columns),
        left_over_(reinterpret_cast<int8_t*>(columns + 2 * layer.elements)) {}

  // What lies behind.
  int8_t* end() const { return left_over_ + 2 * tail_; }

  // a and b: the windows' first bytes; their rows lie `step` bytes apart.
  void expand(const int8_t* a, int32_t a_step, const int8_t* b, int32_t b_step) {
    int16_t* to = columns_;
    quads_.skip_a = a_step - whole_;
    quads_.skip_b = b_step - whole_;
    if (tail_ > 0) {
      rest_.skip_a = a_step - rest_.bytes;
      rest_.skip_b = b_step - rest_.bytes;
      pick_two(a + whole_, b + whole_, left_over_, &rest_, tail_);
      to = expand_two(left_over_, left_over_ + tail_, to, &tails_);
    }
    expand_two(a, b, to, &quads_);
  }

  // A single column, gathered: what is left over, then the quads.
  void expand(const int8_t* a) { expand_one(a, columns_, tail_ + whole_ * quads_.rows); }

  int32_t whole() const { return whole_; }
  int32_t tail() const { return tail_; }

 private:
  int32_t run_, whole_, tail_;
  Stretches quads_, rest_, tails_;
  int16_t* columns_;
  int8_t* left_over_;
};

// columns: as WindowPair wants it, then (for padded or dilated windows, or an odd number of positions) two gathered
// columns.
template <bool kTwice>
__attribute__((noinline)) void convolution8_dsp(const Convolution8& layer, int8_t* out, const int8_t* in,
                                                const int8_t* packed, int16_t* columns) {
  const int32_t row_bytes = layer.in_width * layer.inputs;
  const int32_t run = layer.kernel_width * layer.inputs;
  const int32_t step = layer.dilation_y * row_bytes;
  const int32_t last_top = layer.in_height - 1 - layer.dilation_y * (layer.kernel_height - 1);
  const int32_t last_left = layer.merged != 0 ? layer.in_width - layer.kernel_width : -1;
  WindowPair pair(layer, columns);
  ColumnStore<kTwice> store(layer.elements, layer.outputs, layer.store.zero_point, packed, columns);
  int8_t* to = out;
  for (int32_t n = 0; n < layer.batch; ++n) {
    int32_t waiting = 0;
    const int8_t* from[2];
    int32_t steps[2];
    for (int32_t y = 0; y < layer.out_height; ++y) {
      const int32_t top = y * layer.stride_y - layer.pad_y;
      const int32_t inside_to = top >= 0 && top <= last_top ? last_left : -1;
      const int8_t* const row = in + top * row_bytes;
      for (int32_t x = 0; x < layer.out_width; ++x) {
        const int32_t left = x * layer.stride_x - layer.pad_x;
        const int8_t* const window = row + left * layer.inputs;
        if (left >= 0 && left <= inside_to) {
          if (waiting == 0 && left + layer.stride_x <= inside_to && x + 1 < layer.out_width) {
            pair.expand(window, step, window + layer.stride_x * layer.inputs, step);
            store.two(to);
            to += 2 * layer.outputs;
            ++x;
            continue;
          }
          from[waiting] = window;
          steps[waiting] = step;
        } else {
          int8_t* const column = pair.end() + waiting * run * layer.kernel_height;
          gather<WordBytes>(layer, column, run, nullptr, in, y, x);
          from[waiting] = column;
          steps[waiting] = run;
        }
        if (++waiting == 2) {
          waiting = 0;
          pair.expand(from[0], steps[0], from[1], steps[1]);
          store.two(to);
          to += 2 * layer.outputs;
        }
      }
    }
    if (waiting == 1) {
      int8_t* const column = pair.end();
      gather<WordBytes>(layer, column + pair.tail(), pair.whole(), column, in, layer.out_height - 1,
                        layer.out_width - 1);
      pair.expand(column);
      store.one(to);
      to += layer.outputs;
    }
    in += layer.in_height * row_bytes;
  }
  clamp_bytes(layer.store, out, static_cast<int32_t>(to - out));
}

template <bool kTwice, class G>
inline void quantized_convolution_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed,
                                      int16_t* columns) {
  convolution8_dsp<kTwice>(convolution8_of(g), out, in, packed, columns);
}

// (positions, inputs) -> (positions, outputs); inputs is a multiple of 4.
template <bool kTwice>
__attribute__((noinline)) void pointwise8_dsp(const Store8& store, int32_t positions, int32_t inputs, int32_t outputs,
                                              int8_t* out, const int8_t* in, const int8_t* packed, int16_t* columns) {
  ColumnStore<kTwice> columns_to(inputs, outputs, store.zero_point, packed, columns);
  const Stretches all = {inputs, 1, 0, 0};
  int8_t* to = out;
  for (int32_t pair = positions / 2; pair > 0; --pair) {
    expand_two(in, in + inputs, columns, &all);
    columns_to.two(to);
    in += 2 * inputs;
    to += 2 * outputs;
  }
  if (positions % 2 != 0) {
    expand_one(in, columns, inputs);
    columns_to.one(to);
    to += outputs;
  }
  clamp_bytes(store, out, static_cast<int32_t>(to - out));
}

template <bool kTwice, class G>
inline void quantized_pointwise_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int16_t* columns) {
  const Store8 store = {g.zero_point, g.low, g.high};
  pointwise8_dsp<kTwice>(store, g.positions, g.inputs, g.outputs, out, in, packed, columns);
}

}  // namespace et
