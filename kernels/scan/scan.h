// Running sums of floats. out may be the memory of self.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides of the dimensions that stay; out_step, self_step, length of the one that is
// summed.
template <class G>
void running_sum(const G& g, float* out, const float* self) {
  const auto line = [&](int32_t to, int32_t from) {
    float sum = 0.0f;
    for (int32_t i = 0; i < g.length; ++i) {
      sum += self[from + i * g.self_step];
      out[to + i * g.out_step] = sum;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
