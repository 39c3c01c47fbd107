// Products of two int8 activations on Armv7E-M with DSP instructions: matmul.h's results for rows of neighbours and
// scales below one half. Instructions a multiply-accumulate: 0.875 in the loop, 28 more for four results.
#pragma once

#include <stdint.h>

#include "et/dsp.h"
#include "et/order.h"
#include "linear/quantized_matmul.h"

namespace et {

// The assembly knows the order. `skip`: bytes from what it reads of a row to the next row; offsets of results 1 to 3.
struct ProductRows8 {
  int32_t quads, skip, out_row, multiplier, zero_point, out1, out2, out3;
};
ET_WORD(ProductRows8, quads, 0);
ET_WORD(ProductRows8, skip, 1);
ET_WORD(ProductRows8, out_row, 2);
ET_WORD(ProductRows8, multiplier, 3);
ET_WORD(ProductRows8, zero_point, 4);
ET_WORD(ProductRows8, out1, 5);
ET_WORD(ProductRows8, out2, 6);
ET_WORD(ProductRows8, out3, 7);

// Four values of a row, the pairs (k0, k2) and (k1, k3), times those of four columns.
#define ET_DSP_PRODUCTS                                                                               \
  "ldr r4, [r0], #4\n ldm r1!, {r6-r9}\n"                                                             \
  "sxtb16 r5, r4\n sxtb16 r4, r4, ror #8\n"                                                           \
  "smlad r10, r5, r6, r10\n smlad r11, r5, r7, r11\n smlad r12, r5, r8, r12\n smlad lr, r5, r9, lr\n" \
  "ldm r1!, {r6-r9}\n"                                                                                \
  "smlad r10, r4, r6, r10\n smlad r11, r4, r7, r11\n smlad r12, r4, r8, r12\n smlad lr, r4, r9, lr\n"

// The frame: what was in r1 and r2, the registers that are kept, and behind them the argument that came on the stack.
#define ET_PRODUCTS_AT_packed 0
#define ET_PRODUCTS_AT_out 4
#define ET_PRODUCTS_AT_rows 44
#define ET_PRODUCTS(place) ET_IN_FRAME(ET_PRODUCTS_AT_##place)

__attribute__((naked, noipa)) inline void product_rows(const int8_t* /*x*/, const int16_t* /*packed*/, int8_t* /*out*/,
                                                       const ProductRows8* /*how*/, int32_t /*rows*/) {
  asm volatile(
      "push {r1, r2, r4-r11, lr}\n"
      "1:\n"
      "ldr r1, " ET_PRODUCTS(packed) "\n ldr r2, [r3]\n"
      "ldm r1!, {r10, r11, r12, lr}\n"
      "tst r2, #1\n bne.w 3f\n"
      "2:\n" ET_DSP_PRODUCTS "3:\n" ET_DSP_PRODUCTS
      "subs r2, r2, #2\n bgt.w 2b\n"
      "add r2, r3, #4\n ldm r2, {r2, r4-r9}\n"
      "smmlar r10, r10, r5, r6\n smmlar r11, r11, r5, r6\n smmlar r12, r12, r5, r6\n smmlar lr, lr, r5, r6\n"
      "ssat r10, #8, r10\n ssat r11, #8, r11\n ssat r12, #8, r12\n ssat lr, #8, lr\n"
      "ldr r5, " ET_PRODUCTS(out) "\n ldr r6, " ET_PRODUCTS(rows) "\n"
      "strb r10, [r5]\n strb r11, [r5, r7]\n strb r12, [r5, r8]\n strb lr, [r5, r9]\n"
      "add r0, r0, r2\n add r5, r5, r4\n str r5, " ET_PRODUCTS(out) "\n"
      "subs r6, r6, #1\n str r6, " ET_PRODUCTS(rows) "\n"
      "bne.w 1b\n"
      "add sp, sp, #8\n"
      "pop {r4-r11, pc}\n");
}

// Scratch: 4 sums, then for each 4 values of a row the words (k0, k2) of 4 columns, then their words (k1, k3); what
// fills up the last 4 is 0, so that it does not matter what is read for it; then room for a row.
struct DspProducts {
  // Four values of a column become two pairs. Returns its sum with `sum` added.
  static inline __attribute__((always_inline)) int32_t put(uint32_t* to, uint32_t four, uint32_t below, int32_t sum) {
    const uint32_t even = add_even_bytes(below, four);
    const uint32_t odd = add_odd_bytes(below, four);
    to[0] = even;
    to[4] = odd;
    return multiply_both(even, two_of(1), multiply_both(odd, two_of(1), sum));
  }

  static __attribute__((noinline)) void pack(const Matmul8& shape, const Four8& four, const int8_t* y,
                                             int16_t* scratch) {
    int32_t* const begin = reinterpret_cast<int32_t*>(scratch);
    const uint32_t below = two_of(-shape.y_zero);
    const int32_t step = shape.y.inner;
    for (int32_t c = 0; c < 4; ++c) {
      uint32_t* to = reinterpret_cast<uint32_t*>(scratch) + 4 + c;
      const int8_t* from = y + four.in[c];
      int32_t sum = 0;
      if (step == 1) {
        for (int32_t quads = shape.inner / 4; quads > 0; --quads) {
          sum = put(to, load4(from), below, sum);
          from += 4;
          to += 8;
        }
      } else {
        for (int32_t quads = shape.inner / 4; quads > 0; --quads) {
          uint32_t word = static_cast<uint8_t>(from[0]);
          word |= static_cast<uint32_t>(static_cast<uint8_t>(from[step])) << 8;
          word |= static_cast<uint32_t>(static_cast<uint8_t>(from[2 * step])) << 16;
          word |= static_cast<uint32_t>(static_cast<uint8_t>(from[3 * step])) << 24;
          sum = put(to, word, below, sum);
          from += 4 * step;
          to += 8;
        }
      }
      const int32_t rest = shape.inner % 4;
      if (rest != 0) {
        uint32_t word = four_of(shape.y_zero);
        for (int32_t k = 0; k < rest; ++k) {
          word ^= static_cast<uint32_t>(static_cast<uint8_t>(*from ^ shape.y_zero)) << (8 * k);
          from += step;
        }
        sum = put(to, word, below, sum);
      }
      begin[c] = -shape.x_zero * sum;
    }
  }

  // `last`: behind the last row nothing may be read.
  static __attribute__((noinline)) void rows(const Matmul8& shape, const Four8& four, int8_t* out, const int8_t* x,
                                             int16_t* scratch, bool last) {
    const int32_t quads = (shape.inner + 3) / 4;
    const ProductRows8 how = {quads,
                              shape.x.row - 4 * quads,
                              shape.out_row,
                              shape.multiplier,
                              shape.zero_point,
                              four.out[1] - four.out[0],
                              four.out[2] - four.out[0],
                              four.out[3] - four.out[0]};
    const int32_t apart = last && shape.inner % 4 != 0 ? 1 : 0;
    out += four.out[0];
    if (shape.rows > apart) {
      product_rows(x, scratch, out, &how, shape.rows - apart);
    }
    if (apart != 0) {
      int8_t* const row = reinterpret_cast<int8_t*>(scratch + 8 + 16 * quads);
      const int8_t* const from = x + (shape.rows - 1) * shape.x.row;
      for (int32_t k = 0; k < shape.inner; ++k) {
        row[k] = from[k];
      }
      product_rows(row, scratch, out + (shape.rows - 1) * shape.out_row, &how, 1);
    }
  }
};

// As quantized_matmul. kBounds: low and high are not int8's own.
template <bool kBounds, class G>
inline void quantized_matmul_dsp(const G& g, int8_t* out, const int8_t* x, const int8_t* y, int16_t* scratch) {
  quantized_matmul<DspProducts>(g, out, x, y, scratch);
  if constexpr (kBounds) {
    clamp4(out, g.batch * g.rows * g.columns, g.low, g.high);
  }
}

}  // namespace et
