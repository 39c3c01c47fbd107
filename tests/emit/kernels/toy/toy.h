// Three small kernels for the tests of the code generator, in the form that etexport.kernel.op.Call describes.
#pragma once

#include <stdint.h>

namespace et {

// out[o] = clamp(sum_i x[i] * weight[o][i] + bias[o]); bias may be null.
template <class G>
void toy_linear(const G& g, float* out, const float* x, const float* weight, const float* bias) {
  for (int32_t o = 0; o < g.out; ++o) {
    float sum = bias != nullptr ? bias[o] : 0.0f;
    for (int32_t i = 0; i < g.in; ++i) sum += x[i] * weight[o * g.in + i];
    out[o] = sum < g.low ? g.low : (sum > g.high ? g.high : sum);
  }
}

// out[i] = x[i] + y[i], element by element, by way of scratch.
template <class G>
void toy_add(const G& g, float* out, const float* x, const float* y, float* scratch) {
  const int32_t* sizes = g.sizes;
  const int32_t count = sizes[0] * sizes[1];
  for (int32_t i = 0; i < count; ++i) scratch[i] = x[i] + y[i];
  for (int32_t i = 0; i < count; ++i) out[i] = scratch[i];
}

// One row of a single-channel 3-row column sum, with padding left to the caller, plus a residual row.
template <class G>
void toy_column(const G& g, float* out, const float* const* rows, const float* taps, const float* residual) {
  for (int32_t c = 0; c < g.columns; ++c) {
    float sum = residual[c];
    for (int32_t k = 0; k < 3; ++k) sum += taps[k] * rows[k][c];
    out[c] = sum;
  }
}

}  // namespace et
