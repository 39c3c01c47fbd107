// Products of two activations; a linear layer with constant weights is a pointwise convolution
// (convolution/convolution.h).
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"

namespace et {

struct MatmulShape {
  int32_t batch, rows, inner, columns;
  int32_t batch_stride, row_stride, column_stride;  // of the bias, in elements: 0 where it is the same for all
  float alpha, beta, low, high;
};

// out = clamped(alpha * a x b + beta * bias); a is (batch, rows, inner), b (batch, inner, columns), bias null or of any
// strides. Four columns at a time, so that each element of a is read once for four products.
inline __attribute__((noinline)) void matmul_all(const MatmulShape& shape, float* out, const float* a, const float* b,
                                                 const float* bias) {
  for (int32_t batch = 0; batch < shape.batch; ++batch) {
    for (int32_t row = 0; row < shape.rows; ++row) {
      for (int32_t first = 0; first < shape.columns; first += 4) {
        const int32_t count = smaller(shape.columns - first, 4);
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        const float* column = b + first;
        if (count == 4) {
          for (int32_t k = 0; k < shape.inner; ++k) {
            const float value = a[k];
            sum[0] += value * column[0];
            sum[1] += value * column[1];
            sum[2] += value * column[2];
            sum[3] += value * column[3];
            column += shape.columns;
          }
        } else {
          for (int32_t k = 0; k < shape.inner; ++k) {
            for (int32_t c = 0; c < count; ++c) {
              sum[c] += a[k] * column[c];
            }
            column += shape.columns;
          }
        }
        for (int32_t c = 0; c < count; ++c) {
          float value = shape.alpha * sum[c];
          if (bias != nullptr) {
            value += shape.beta * bias[row * shape.row_stride + (first + c) * shape.column_stride];
          }
          *out++ = clamped(value, shape.low, shape.high);
        }
      }
      a += shape.inner;
    }
    b += shape.inner * shape.columns;
    bias = bias == nullptr ? nullptr : bias + shape.batch_stride;
  }
}

template <class G>
inline void matmul(const G& g, float* out, const float* a, const float* b, const float* bias) {
  matmul_all({g.batch, g.rows, g.inner, g.columns, g.batch_stride, g.row_stride, g.column_stride, g.alpha, g.beta,
              g.low, g.high},
             out, a, b, bias);
}

}  // namespace et
