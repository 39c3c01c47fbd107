// int8 depthwise convolution with windows of 5 or 7 rows, one below the other, on Armv7E-M with DSP instructions: two
// output rows at a time.
//
// For 4 channels the rows of both become int16 pairs (row 0, row 1), (row 2, row 3), ..., column after column, and the
// weights pairs (w0, w1), (w2, w3), ... and (w1, w2), (w3, w4), ... of each column of the window. Then for each channel
// and position 8 instructions for the 10 products of a column of 5 rows, 11 for the 14 of 7, and 16 for what is round
// them: with the pairs 1.4 and 1.2 a multiply-accumulate, where one position at a time takes 2.4 and 2.3.
#pragma once

#include <stdint.h>

#include "convolution/quantized_depthwise3x3_dsp.h"
#include "et/order.h"

namespace et {

// Rows of a layer over (n, h, w, c). columns: those that a row of windows sees.
struct DepthwiseRows8 {
  int32_t in_width, channels, out_width, kernel_width, stride_x, pad_x, columns, input_zero;
  Store8 store;
};

template <class G>
constexpr DepthwiseRows8 depthwise_rows8_of(const G& g) {
  return {g.in_width,     g.channels,   g.out_width,
          g.kernel_width, g.stride_x,   g.pad_x,
          g.columns,      g.input_zero, {g.zero_point, g.low, g.high}};
}

template <class G>
struct FixedRows8 {
  static constexpr DepthwiseRows8 kLayer = depthwise_rows8_of(G{});
};

// One channel of two rows; the assembly knows the order.
struct RowsRun8 {
  int32_t multiplier, zero_point;
  int32_t row_step;  // from the first row's results to the second one's, which are stored first
  int32_t step;      // from a result to the next one
  int32_t x_step;    // from a window to the next one
  const int32_t* weights;
  int32_t bias, kernel_width;
  const int32_t* x;
  const int32_t* x_end;
  int8_t* out;
};
#define ET_ROWS_AT_weights 20
#define ET_ROWS_AT_loop 28
ET_WORD(RowsRun8, multiplier, 0);
ET_WORD(RowsRun8, zero_point, 1);
ET_WORD(RowsRun8, row_step, 2);
ET_WORD(RowsRun8, step, 3);
ET_WORD(RowsRun8, x_step, 4);
ET_PLACE(RowsRun8, weights, ET_ROWS_AT_weights);
ET_WORD(RowsRun8, bias, 6);
ET_PLACE(RowsRun8, kernel_width, ET_ROWS_AT_loop);
ET_WORD(RowsRun8, x, 8);
ET_WORD(RowsRun8, x_end, 9);
ET_WORD(RowsRun8, out, 10);

// A column of 5 rows, 32 bytes of code, and of 7, 44 bytes: sums r2 and r3 of the two rows.
#define ET_DSP_ROWS_5                              \
  "ldm.w r0!, {r4-r6}\n ldm.w r1!, {r7-r10}\n"     \
  "smlad r2, r4, r7, r2\n smlatb r3, r4, r7, r3\n" \
  "smlad r2, r5, r8, r2\n smlad r3, r5, r9, r3\n"  \
  "smlabt r2, r6, r10, r2\n smlad r3, r6, r10, r3\n"
#define ET_DSP_ROWS_7                              \
  "ldm.w r0!, {r4-r7}\n ldm.w r1!, {r8-r10}\n"     \
  "smlad r2, r4, r8, r2\n smlatb r3, r4, r8, r3\n" \
  "smlad r2, r5, r9, r2\n smlad r2, r6, r10, r2\n" \
  "ldm.w r1!, {r8-r10}\n"                          \
  "smlad r3, r5, r8, r3\n smlad r3, r6, r9, r3\n"  \
  "smlabt r2, r7, r10, r2\n smlad r3, r7, r10, r3\n"

// The frame: RowsRun8, where columns begin in place of kernel_width.
#define ET_DSP_ROWS(column, bytes) \
  "push {r4-r11, lr}\n" \
  "sub sp, sp, #44\n" \
  "mov r12, sp\n" \
  "ldm r0!, {r1-r8}\n stm r12!, {r1-r8}\n ldm r0, {r1-r3}\n stm r12, {r1-r3}\n" \
  "mov r11, r1\n mov lr, r2\n mov r12, r3\n" \
  "adr.w r4, 4f\n mov r5, #" bytes \
  "\n mls r4, r8, r5, r4\n orr r4, r4, #1\n str r4, " ET_IN_FRAME(ET_ROWS_AT_loop) "\n" \
  "0:\n" \
  "mov r0, r11\n ldrd r1, r2, " ET_IN_FRAME(ET_ROWS_AT_weights) "\n mov r3, r2\n" \
  "ldr pc, " ET_IN_FRAME(ET_ROWS_AT_loop) "\n" column column column column column column column \
  "4:\n" \
  "ldm sp, {r4-r8}\n" \
  "smmlar r2, r2, r4, r5\n smmlar r3, r3, r4, r5\n ssat r2, #8, r2\n ssat r3, #8, r3\n" \
  "strb r3, [r12, r6]\n strb r2, [r12]\n add r12, r12, r7\n add r11, r11, r8\n" \
  "cmp r11, lr\n bne.w 0b\n" \
  "add sp, sp, #44\n" \
  "pop {r4-r11, pc}\n"

__attribute__((naked, noipa, aligned(4))) inline void rows_of_5(const RowsRun8* /*run*/) {
  asm volatile(ET_DSP_ROWS(ET_DSP_ROWS_5, "32"));
}

__attribute__((naked, noipa, aligned(4))) inline void rows_of_7(const RowsRun8* /*run*/) {
  asm volatile(ET_DSP_ROWS(ET_DSP_ROWS_7, "44"));
}

// Two rows of 4 channels as pairs, `pixel` bytes from column to column; kPairs words a column, `plane` words a channel.
template <int32_t kPairs>
__attribute__((noinline)) void pair_rows(int32_t* to, int32_t plane, const int8_t* upper, const int8_t* lower,
                                         int32_t columns, int32_t pixel) {
  for (; columns > 0; --columns) {
    const uint32_t a = load4(upper);
    const uint32_t b = load4(lower);
    const uint32_t even = lower_halves(b, a);
    const uint32_t odd = upper_halves(b, a);
    to[0] = static_cast<int32_t>(even_bytes(even));
    to[plane] = static_cast<int32_t>(odd_bytes(even));
    to[2 * plane] = static_cast<int32_t>(even_bytes(odd));
    to[3 * plane] = static_cast<int32_t>(odd_bytes(odd));
    upper += pixel;
    lower += pixel;
    to += kPairs;
  }
}

// `count` rows, 1 or 2, of windows of 2 * kPairs - 1 rows. scratch: kPairs words of 4 channels for each column, then
// 2 * kPairs - 2 for each column of the window. Packed: see pack_columns in kernels/convolution/quantized_packing.py.
template <int32_t kPairs>
__attribute__((noinline)) void depthwise8_rows(const DepthwiseRows8& layer, int8_t* out, const int8_t* const* rows,
                                               int32_t count, const int8_t* packed, int32_t* scratch) {
  static_assert(kPairs == 3 || kPairs == 4);
  const int32_t channels = layer.channels;
  const int32_t plane = kPairs * layer.columns;
  const int32_t inside = smaller(layer.in_width, layer.columns - layer.pad_x);
  int32_t* const weights = scratch + 4 * plane;
  int32_t* const weights_end = weights + (2 * kPairs - 2) * layer.kernel_width;
  for (int32_t* to = scratch; to < weights; to += plane) {
    pad_records(to, to + kPairs * layer.pad_x, layer.input_zero);
    pad_records(to + kPairs * (layer.pad_x + inside), to + plane, layer.input_zero);
  }
  const int32_t out_row = layer.out_width * channels;
  const int8_t* const last = rows[count == 2 ? 2 * kPairs - 1 : 2 * kPairs - 2];
  RowsRun8 run;
  run.zero_point = layer.store.zero_point;
  run.row_step = count == 2 ? out_row : 0;
  run.step = channels;
  run.x_step = 4 * kPairs * layer.stride_x;
  run.weights = weights;
  run.kernel_width = layer.kernel_width;
  for (int32_t channel = 0; channel < channels; ++channel) {
    const int32_t lane = channel & 3;
    if (lane == 0) {
      for (int32_t pair = 0; pair < kPairs; ++pair) {
        pair_rows<kPairs>(scratch + kPairs * layer.pad_x + pair, plane, rows[2 * pair] + channel,
                          (pair == kPairs - 1 ? last : rows[2 * pair + 1]) + channel, inside, channels);
      }
    }
    run.bias = word_at(packed);
    packed += 4;
    for (int32_t* to = weights; to < weights_end; to += 2) {
      const uint32_t word = load4(packed);
      to[0] = static_cast<int32_t>(even_bytes(word));
      to[1] = static_cast<int32_t>(odd_bytes(word));
      packed += 4;
    }
    run.multiplier = word_at(packed);
    packed += 4;
    run.x = scratch + lane * plane;
    run.x_end = run.x + kPairs * layer.stride_x * layer.out_width;
    run.out = out + channel;
    if constexpr (kPairs == 3) {
      rows_of_5(&run);
    } else {
      rows_of_7(&run);
    }
  }
  clamp_bytes(layer.store, out, count * out_row);
}

template <int32_t kPairs, class G>
inline void quantized_depthwise_rows(const G& g, int8_t* out, const int8_t* const* rows, int32_t count,
                                     const int8_t* packed, int32_t* scratch) {
  if constexpr (__is_empty(G)) {
    depthwise8_rows<kPairs>(FixedRows8<G>::kLayer, out, rows, count, packed, scratch);
  } else {
    depthwise8_rows<kPairs>(depthwise_rows8_of(g), out, rows, count, packed, scratch);
  }
}

}  // namespace et
