// Batch normalisation with fixed statistics, where no convolution or linear layer before it could take them in.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// out = clamped((x - mean) * scale + bias), the last three by channel. G: sizes, out_strides, self_strides,
// channel_strides, low, high. The mean is taken off first: x * scale + (bias - mean * scale) cancels badly where x is
// near a large mean.
template <class G>
void batch_norm(const G& g, float* out, const float* x, const float* mean, const float* scale, const float* bias) {
  each<extent_of<decltype(G::sizes)>>(
      g.sizes,
      [&](int32_t to, int32_t from, int32_t channel) {
        out[to] = clamped((x[from] - mean[channel]) * scale[channel] + bias[channel], g.low, g.high);
      },
      Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.channel_strides});
}

}  // namespace et
