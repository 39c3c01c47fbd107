// Products of two int8 activations in any dim order: rows of one times columns of the other, four columns at a time.
//
// Four columns are packed in scratch: for each the sum that it begins with, which takes off the rows' zero point, and
// their values without their own zero point in 16 bits, in the order in which the core reads them. Then every row is a
// plain sum of products.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/requantize.h"

namespace et {

// Elements from one index to the next; the inner dimension's are `inner`.
struct Steps {
  int32_t batch, row, inner;
};

// out[batch][row][column] of x (batch, rows, inner) and y (batch, columns, inner). shift: of the scale.
struct Matmul8 {
  int32_t batch, rows, inner, columns;
  Steps x, y;
  int32_t out_batch, out_row, out_column;
  int32_t x_zero, y_zero, zero_point, multiplier, shift, low, high;
};

// Where four columns' results lie, from the first one's; of the last columns some may be the same.
struct Four8 {
  int32_t in[4], out[4];
};

inline Four8 four_columns(const Matmul8& shape, int32_t first) {
  Four8 four;
  for (int32_t c = 0; c < 4; ++c) {
    const int32_t column = smaller(first + c, shape.columns - 1);
    four.in[c] = column * shape.y.row;
    four.out[c] = column * shape.out_column;
  }
  return four;
}

// Scratch: 4 sums, then (inner, 4) values. kTwice: rounded as TFLite does. kRows at a time: what the registers hold.
template <bool kTwice, int32_t kRows>
struct PortableProducts {
  static __attribute__((noinline)) void pack(const Matmul8& shape, const Four8& four, const int8_t* y,
                                             int16_t* scratch) {
    const int32_t step = shape.y.inner;
    const int32_t zero = shape.y_zero;
    for (int32_t c = 0; c < 4; ++c) {
      int16_t* to = scratch + 8 + c;
      const int8_t* from = y + four.in[c];
      int32_t sum = 0;
      for (int32_t k = shape.inner; k > 0; --k) {
        const int32_t value = *from - zero;
        from += step;
        sum += value;
        *to = static_cast<int16_t>(value);
        to += 4;
      }
      reinterpret_cast<int32_t*>(scratch)[c] = -shape.x_zero * sum;
    }
  }

  static __attribute__((noinline)) void store(const Matmul8& shape, const Four8& four, int8_t* out, int32_t s0,
                                              int32_t s1, int32_t s2, int32_t s3) {
    const int32_t sums[4] = {s0, s1, s2, s3};
    for (int32_t c = 0; c < 4; ++c) {
      const int32_t scaled = kTwice ? requantized_twice(sums[c], shape.multiplier, shape.shift)
                                    : requantized(sums[c], shape.multiplier, shape.shift);
      out[four.out[c]] = saturated(scaled + shape.zero_point, shape.low, shape.high);
    }
  }

  template <int32_t kMany>
  static inline __attribute__((always_inline)) void some_rows(const Matmul8& shape, const Four8& four, int8_t* out,
                                                              const int8_t* x, const int16_t* scratch) {
    int32_t s0[kMany], s1[kMany], s2[kMany], s3[kMany];
    const int8_t* rows[kMany];
    const int32_t* const begin = reinterpret_cast<const int32_t*>(scratch);
    const int32_t step = shape.x.inner;
#pragma GCC unroll 2
    for (int32_t r = 0; r < kMany; ++r) {
      rows[r] = x + r * shape.x.row;
      s0[r] = begin[0];
      s1[r] = begin[1];
      s2[r] = begin[2];
      s3[r] = begin[3];
    }
    const int16_t* y = scratch + 8;
    const auto add = [&](const int16_t* values) __attribute__((always_inline)) {
      int32_t value[kMany];
#pragma GCC unroll 2
      for (int32_t r = 0; r < kMany; ++r) {
        value[r] = *rows[r];
        rows[r] += step;
      }
#pragma GCC unroll 2
      for (int32_t r = 0; r < kMany; ++r) {
        s0[r] += value[r] * values[0];
        s1[r] += value[r] * values[1];
        s2[r] += value[r] * values[2];
        s3[r] += value[r] * values[3];
      }
    };
    const int16_t* const end = y + shape.inner / 2 * 8;
    while (y != end) {
      add(y);
      add(y + 4);
      y += 8;
    }
    if (shape.inner % 2 != 0) {
      add(y);
    }
#pragma GCC unroll 2
    for (int32_t r = 0; r < kMany; ++r) {
      store(shape, four, out + r * shape.out_row, s0[r], s1[r], s2[r], s3[r]);
    }
  }

  static __attribute__((noinline)) void rows(const Matmul8& shape, const Four8& four, int8_t* out, const int8_t* x,
                                             int16_t* scratch, bool /*last*/) {
    int32_t left = shape.rows;
    for (; left >= kRows; left -= kRows) {
      some_rows<kRows>(shape, four, out, x, scratch);
      out += kRows * shape.out_row;
      x += kRows * shape.x.row;
    }
    if (kRows > 1 && left > 0) {
      some_rows<1>(shape, four, out, x, scratch);
    }
  }
};

template <class Core>
__attribute__((noinline)) void matmul8(const Matmul8& shape, int8_t* out, const int8_t* x, const int8_t* y,
                                       int16_t* scratch) {
  for (int32_t batch = 0; batch < shape.batch; ++batch) {
    for (int32_t column = 0; column < shape.columns; column += 4) {
      const Four8 four = four_columns(shape, column);
      Core::pack(shape, four, y, scratch);
      Core::rows(shape, four, out, x, scratch, batch == shape.batch - 1);
    }
    out += shape.out_batch;
    x += shape.x.batch;
    y += shape.y.batch;
  }
}

// G: the members of Matmul8, with x_steps, y_steps and out_steps.
template <class Core, class G>
inline void quantized_matmul(const G& g, int8_t* out, const int8_t* x, const int8_t* y, int16_t* scratch) {
  const int32_t* const sx = g.x_steps;
  const int32_t* const sy = g.y_steps;
  const int32_t* const so = g.out_steps;
  matmul8<Core>({g.batch,
                 g.rows,
                 g.inner,
                 g.columns,
                 {sx[0], sx[1], sx[2]},
                 {sy[0], sy[1], sy[2]},
                 so[0],
                 so[1],
                 so[2],
                 g.x_zero,
                 g.y_zero,
                 g.zero_point,
                 g.multiplier,
                 g.shift,
                 g.low,
                 g.high},
                out, x, y, scratch);
}

}  // namespace et
