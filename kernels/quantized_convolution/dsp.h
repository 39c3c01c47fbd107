// int8 convolution on Armv7E-M with DSP instructions (Cortex-M4, M7, M33): Paired's bytes, the same results.
//
// A core makes 4 channels of two columns (or of one) in registers, from an int16 column in scratch and the packed stream, which it reads
// from first to last; it loops over the blocks of channels by itself and stores bytes. Instructions a multiply-accumulate, in the loop:
// two columns 0.80 (12 for 16, and 3 for 64: 8 accumulators, 2 x 2 operands, 2 pointers use all 14 registers), one column 0.94.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "quantized_convolution/dense.h"

namespace et {

// What the cores read beside their pointers; the assembly knows the order.
struct Block8 {
  int32_t x_bytes, blocks, out_step, zero_point;
};

// Bytes to int16 pairs (k0, k2), (k1, k3) for each 4 bytes of two columns in turn; returns the end of what it wrote. 9 instructions
// for 8 bytes. `bytes` is a multiple of 4 and not 0.
__attribute__((naked, noipa)) inline int16_t* expand_two(const int8_t* /*a*/, const int8_t* /*b*/, int16_t* /*out*/,
                                                         int32_t /*bytes*/) {
  asm volatile(
      "push {r4-r7, lr}\n"
      "1:\n"
      "ldr r12, [r0], #4\n ldr lr, [r1], #4\n"
      "sxtb16 r4, r12\n sxtb16 r5, lr\n sxtb16 r6, r12, ror #8\n sxtb16 r7, lr, ror #8\n"
      "subs r3, r3, #4\n"
      "stm r2!, {r4-r7}\n"
      "bne 1b\n"
      "mov r0, r2\n"
      "pop {r4-r7, pc}\n");
}

// The same for one column.
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

// 2 k of 4 channels and 2 columns: lower sums r2, r4 (first column), r6, r8 (second); sums of both r3, r5, r7, r9.
#define ET_DSP_TWO                                                        \
  "ldrd r10, r11, [r1], #8\n ldrd r12, lr, [r0], #8\n"                    \
  "smlad r3, r12, r10, r3\n smlad r7, lr, r10, r7\n"                      \
  "smlad r5, r12, r11, r5\n smlad r9, lr, r11, r9\n"                      \
  "sxtb16 r10, r10\n sxtb16 r11, r11\n"                                   \
  "smlad r2, r12, r10, r2\n smlad r6, lr, r10, r6\n"                      \
  "smlad r4, r12, r11, r4\n smlad r8, lr, r11, r8\n"

// `blocks` x 4 channels of two columns; the second column's bytes lie out_step behind the first one's.
__attribute__((naked, noipa)) inline void columns_two(const int16_t* /*x*/, const int8_t* /*packed*/, int8_t* /*out*/,
                                                      const Block8* /*block*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldm r3, {r4-r7}\n"
      "add r4, r4, r0\n"  // end of x
      "mov r8, r2\n"
      "add r9, r2, r6\n"
      "mov r10, r5\n"
      "sub sp, sp, #24\n"
      "stm sp, {r0, r4, r7, r8, r9, r10}\n"  // x, its end, zero point, two outputs, blocks
      "1:\n"
      "ldm r1!, {r2-r5}\n"
      "mov r6, r2\n mov r7, r3\n mov r8, r4\n mov r9, r5\n"
      "2:\n"
      ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO ET_DSP_TWO
      "ldr r12, [sp, #4]\n cmp r0, r12\n bne.w 2b\n"
      "sub r3, r3, r2\n sub r5, r5, r4\n sub r7, r7, r6\n sub r9, r9, r8\n"
      "ldm r1!, {r10, r11, r12, lr}\n"
      "asr r3, r3, #8\n asr r5, r5, #8\n asr r7, r7, #8\n asr r9, r9, #8\n"
      "ldr r0, [sp, #8]\n"
      "smmlar r2, r2, r10, r0\n smmlar r3, r3, r11, r0\n smmlar r4, r4, r12, r0\n smmlar r5, r5, lr, r0\n"
      "smmlar r6, r6, r10, r0\n smmlar r7, r7, r11, r0\n smmlar r8, r8, r12, r0\n smmlar r9, r9, lr, r0\n"
      "ssat r2, #8, r2\n ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n"
      "ldrd r10, r11, [sp, #12]\n"
      "ssat r6, #8, r6\n ssat r7, #8, r7\n ssat r8, #8, r8\n ssat r9, #8, r9\n"
      "strb r2, [r10], #1\n strb r3, [r10], #1\n strb r4, [r10], #1\n strb r5, [r10], #1\n"
      "strb r6, [r11], #1\n strb r7, [r11], #1\n strb r8, [r11], #1\n strb r9, [r11], #1\n"
      "ldr r12, [sp, #20]\n ldr r0, [sp]\n"
      "strd r10, r11, [sp, #12]\n"
      "subs r12, r12, #1\n str r12, [sp, #20]\n"
      "bne.w 1b\n"
      "add sp, sp, #24\n"
      "pop {r4-r11, pc}\n");
}

// 4 k of 4 channels and one column: lower sums r2, r4; sums of both r3, r5.
#define ET_DSP_ONE                                                                                     \
  "ldm r1!, {r6-r9}\n ldrd r10, r11, [r0], #8\n"                                                       \
  "smlad r3, r10, r6, r3\n smlad r5, r10, r7, r5\n smlad r3, r11, r8, r3\n smlad r5, r11, r9, r5\n"    \
  "sxtb16 r6, r6\n sxtb16 r7, r7\n sxtb16 r8, r8\n sxtb16 r9, r9\n"                                    \
  "smlad r2, r10, r6, r2\n smlad r4, r10, r7, r4\n smlad r2, r11, r8, r2\n smlad r4, r11, r9, r4\n"

__attribute__((naked, noipa)) inline void columns_one(const int16_t* /*x*/, const int8_t* /*packed*/, int8_t* /*out*/,
                                                      const Block8* /*block*/) {
  asm volatile(
      "push {r4-r11, lr}\n"
      "ldm r3, {r4-r7}\n"
      "add r12, r4, r0\n"
      "push {r0, r2, r5, r7}\n"  // x, output, blocks, zero point
      "1:\n"
      "ldm r1!, {r2-r5}\n"
      "2:\n"
      ET_DSP_ONE ET_DSP_ONE
      "cmp r0, r12\n bne.w 2b\n"
      "sub r3, r3, r2\n sub r5, r5, r4\n"
      "ldm r1!, {r6-r9}\n"
      "asr r3, r3, #8\n asr r5, r5, #8\n"
      "ldr r10, [sp, #12]\n ldr r11, [sp, #4]\n"
      "smmlar r2, r2, r6, r10\n smmlar r3, r3, r7, r10\n smmlar r4, r4, r8, r10\n smmlar r5, r5, r9, r10\n"
      "ssat r2, #8, r2\n ssat r3, #8, r3\n ssat r4, #8, r4\n ssat r5, #8, r5\n"
      "strb r2, [r11], #1\n strb r3, [r11], #1\n strb r4, [r11], #1\n strb r5, [r11], #1\n"
      "ldr r6, [sp, #8]\n ldr r0, [sp]\n"
      "str r11, [sp, #4]\n"
      "subs r6, r6, #1\n str r6, [sp, #8]\n"
      "bne.w 1b\n"
      "add sp, sp, #16\n"
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

// All channels of `columns` (1 or 2) columns.
inline __attribute__((noinline)) void store_columns(int32_t columns, int32_t elements, int32_t outputs,
                                                    int32_t zero_point, int8_t* out, const int16_t* x,
                                                    const int8_t* packed) {
  const auto core = [&](const int8_t* stream, int8_t* to, const Block8& block) {
    if (columns == 2) {
      columns_two(x, stream, to, &block);
    } else {
      columns_one(x, stream, to, &block);
    }
  };
  const int32_t whole = outputs / 4;
  Block8 block = {2 * columns * elements, whole, outputs, zero_point};
  if (whole > 0) {
    core(packed, out, block);
  }
  const int32_t left = outputs - 4 * whole;
  if (left > 0) {
    int8_t last[8];
    block.blocks = 1;
    block.out_step = 4;
    core(packed + whole * (32 + 4 * elements), last, block);
    for (int32_t column = 0; column < columns; ++column) {
      for (int32_t c = 0; c < left; ++c) {
        out[column * outputs + 4 * whole + c] = last[4 * column + c];
      }
    }
  }
}

// Columns are made two at a time: `columns` is 4 * elements bytes for them, and with gathered columns 2 * elements more.
inline __attribute__((noinline)) void convolution8_dsp(const Convolution8& layer, int8_t* out, const int8_t* in,
                                                       const int8_t* packed, int16_t* columns) {
  const int32_t channels = layer.inputs;
  const int32_t row_bytes = layer.in_width * channels;
  const int32_t run = layer.kernel_width * channels;
  const int32_t row_step = layer.dilation_y * row_bytes;
  const int32_t last_top = layer.in_height - 1 - layer.dilation_y * (layer.kernel_height - 1);
  const int32_t last_left = layer.in_width - layer.kernel_width;
  const bool direct = layer.merged != 0 && run % 4 == 0;
  int8_t* const bytes = reinterpret_cast<int8_t*>(columns + 2 * layer.elements);
  int8_t* to = out;
  for (int32_t n = 0; n < layer.batch; ++n) {
    int32_t y = 0;
    int32_t x = 0;
    for (int32_t left = layer.out_height * layer.out_width; left > 0;) {
      const int32_t count = smaller(left, 2);
      const int8_t* from[2];
      bool inside = direct;
      int32_t at[2][2];
      for (int32_t column = 0; column < count; ++column) {
        const int32_t top = y * layer.stride_y - layer.pad_y;
        const int32_t begin = x * layer.stride_x - layer.pad_x;
        inside = inside && top >= 0 && top <= last_top && begin >= 0 && begin <= last_left;
        from[column] = in + top * row_bytes + begin * channels;
        at[column][0] = y;
        at[column][1] = x;
        if (++x == layer.out_width) {
          x = 0;
          ++y;
        }
      }
      if (inside) {
        int16_t* end = columns;
        for (int32_t ky = 0; ky < layer.kernel_height; ++ky) {
          end = count == 2 ? expand_two(from[0], from[1], end, run) : expand_one(from[0], end, run);
          from[0] += row_step;
          from[1] += count == 2 ? row_step : 0;
        }
      } else {
        for (int32_t column = 0; column < count; ++column) {
          gather(layer, bytes + column * layer.elements, in, at[column][0], at[column][1]);
        }
        if (count == 2) {
          expand_two(bytes, bytes + layer.elements, columns, layer.elements);
        } else {
          expand_one(bytes, columns, layer.elements);
        }
      }
      store_columns(count, layer.elements, layer.outputs, layer.store.zero_point, to, columns, packed);
      to += count * layer.outputs;
      left -= count;
    }
    in += layer.in_height * row_bytes;
  }
  clamp_bytes(layer.store, out, static_cast<int32_t>(to - out));
}

template <class G>
inline void quantized_convolution_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed,
                                      int16_t* columns) {
  convolution8_dsp(convolution8_of(g), out, in, packed, columns);
}

// (positions, inputs) -> (positions, outputs); inputs is a multiple of 4.
inline __attribute__((noinline)) void pointwise8_dsp(const Store8& store, int32_t positions, int32_t inputs,
                                                     int32_t outputs, int8_t* out, const int8_t* in,
                                                     const int8_t* packed, int16_t* columns) {
  const int32_t elements = (inputs + 7) / 8 * 8;
  const int8_t* const start = out;
  for (int32_t left = positions; left > 0;) {
    const int32_t count = smaller(left, 2);
    // what lies behind `inputs` is multiplied by weights of 0
    if (count == 2) {
      expand_two(in, in + inputs, columns, inputs);
    } else {
      expand_one(in, columns, inputs);
    }
    store_columns(count, elements, outputs, store.zero_point, out, columns, packed);
    in += count * inputs;
    out += count * outputs;
    left -= count;
  }
  clamp_bytes(store, const_cast<int8_t*>(start), static_cast<int32_t>(out - start));
}

template <class G>
inline void quantized_pointwise_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int16_t* columns) {
  const Store8 store = {g.zero_point, g.low, g.high};
  pointwise8_dsp(store, g.positions, g.inputs, g.outputs, out, in, packed, columns);
}

}  // namespace et
