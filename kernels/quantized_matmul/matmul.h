// Products of two int8 activations in any dim order.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/requantize.h"

namespace et {

// Elements from one index to the next: of the batch, of the rows (b: of the inner dimension), of the columns (a:
// inner).
struct Steps {
  int32_t batch, row, column;
};

struct Matmul8 {
  int32_t batch, rows, inner, columns;
  Steps a, b, out;
  int32_t a_zero, b_zero, zero_point, multiplier, shift, low, high;
};

template <bool kTwice>
inline int8_t stored_product(const Matmul8& shape, int32_t sum) {
  const int32_t scaled =
      kTwice ? requantized_twice(sum, shape.multiplier, shape.shift) : requantized(sum, shape.multiplier, shape.shift);
  return saturated(scaled + shape.zero_point, shape.low, shape.high);
}

// kColumns neighbouring results: each element of a is read once for all of them.
template <bool kTwice, int32_t kColumns>
inline __attribute__((always_inline)) void products(const Matmul8& shape, int8_t* out, const int8_t* a,
                                                    const int8_t* b) {
  int32_t sums[kColumns] = {};
  const int32_t a_zero = shape.a_zero;
  const int32_t b_zero = shape.b_zero;
  for (int32_t k = 0; k < shape.inner; ++k) {
    const int32_t value = *a - a_zero;
#pragma GCC unroll 4
    for (int32_t c = 0; c < kColumns; ++c) {
      sums[c] += value * (b[c * shape.b.column] - b_zero);
    }
    a += shape.a.column;
    b += shape.b.row;
  }
#pragma GCC unroll 4
  for (int32_t c = 0; c < kColumns; ++c) {
    out[c * shape.out.column] = stored_product<kTwice>(shape, sums[c]);
  }
}

// a (batch, rows, inner) x b (batch, inner, columns)
template <bool kTwice>
__attribute__((noinline)) void matmul8(const Matmul8& shape, int8_t* out, const int8_t* a, const int8_t* b) {
  for (int32_t batch = 0; batch < shape.batch; ++batch) {
    for (int32_t row = 0; row < shape.rows; ++row) {
      int8_t* const to = out + batch * shape.out.batch + row * shape.out.row;
      const int8_t* const left = a + batch * shape.a.batch + row * shape.a.row;
      const int8_t* const right = b + batch * shape.b.batch;
      int32_t column = 0;
      for (; column + 4 <= shape.columns; column += 4) {
        products<kTwice, 4>(shape, to + column * shape.out.column, left, right + column * shape.b.column);
      }
      for (; column < shape.columns; ++column) {
        products<kTwice, 1>(shape, to + column * shape.out.column, left, right + column * shape.b.column);
      }
    }
  }
}

// G: batch, rows, inner, columns; a_steps, b_steps, out_steps; a_zero, b_zero, zero_point, multiplier, shift, low,
// high.
template <bool kTwice, class G>
inline void quantized_matmul(const G& g, int8_t* out, const int8_t* a, const int8_t* b) {
  const int32_t* const sa = g.a_steps;
  const int32_t* const sb = g.b_steps;
  const int32_t* const so = g.out_steps;
  matmul8<kTwice>({g.batch,
                   g.rows,
                   g.inner,
                   g.columns,
                   {sa[0], sa[1], sa[2]},
                   {sb[0], sb[1], sb[2]},
                   {so[0], so[1], so[2]},
                   g.a_zero,
                   g.b_zero,
                   g.zero_point,
                   g.multiplier,
                   g.shift,
                   g.low,
                   g.high},
                  out, a, b);
}

}  // namespace et
