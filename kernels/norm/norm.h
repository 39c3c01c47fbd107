// Normalisation of sets of elements to mean 0 and variance 1, then a scale and a shift for each element of a set.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides, statistic_strides, parameter_strides over the sets; set_sizes, set_out_strides,
// set_self_strides, set_parameter_strides over the elements of one; scale, 1 / the number of these; eps. weight and
// bias, mean and rstd (1 / the standard deviation) may each be null. out may be the memory of self.
template <class G>
void normalize(const G& g, float* out, float* mean, float* rstd, const float* self, const float* weight,
               const float* bias) {
  constexpr int32_t kDims = extent_of<decltype(G::set_sizes)>;
  const auto set = [&](int32_t to, int32_t from, int32_t statistic, int32_t parameter) {
    const float* const x = self + from;
    float total = 0.0f;
    each<kDims>(g.set_sizes, [&](int32_t at) { total = total + x[at]; }, Cursor{0, g.set_self_strides});
    const float middle = total * g.scale;
    // the deviations are summed by themselves: the mean of squares less the square of the mean would cancel
    float squares = 0.0f;
    const auto deviation = [&](int32_t at) {
      const float d = x[at] - middle;
      squares = squares + d * d;
    };
    each<kDims>(g.set_sizes, deviation, Cursor{0, g.set_self_strides});
    const float factor = 1.0f / sqrtf(squares * g.scale + g.eps);
    const auto element = [&](int32_t o, int32_t i, int32_t p) {
      float v = (x[i] - middle) * factor;
      v = weight != nullptr ? v * weight[parameter + p] : v;
      out[to + o] = bias != nullptr ? v + bias[parameter + p] : v;
    };
    each<kDims>(g.set_sizes, element, Cursor{0, g.set_out_strides}, Cursor{0, g.set_self_strides},
                Cursor{0, g.set_parameter_strides});
    if (mean != nullptr) {
      mean[statistic] = middle;
    }
    if (rstd != nullptr) {
      rstd[statistic] = factor;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, set, Cursor{0, g.out_strides}, Cursor{0, g.self_strides},
                                      Cursor{0, g.statistic_strides}, Cursor{0, g.parameter_strides});
}

}  // namespace et
