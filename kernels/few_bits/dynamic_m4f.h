// Linear layers with weights of 4 bits and inputs that are rounded to int8 on the Cortex-M4 with FPU: the loop of
// fixed_m4f.h, in which a group's sums are exact where inputs are this small.
#pragma once

#include <stdint.h>

#include "few_bits/dynamic.h"
#include "few_bits/fixed_m4f.h"

namespace et {

// As fixed_inputs; its scale is the row's own.
template <class Kind>
__attribute__((noinline)) float dynamic_inputs(const FixedGeometry& g, const float* x, int32_t* ints, float* offsets) {
  const RowScale scale = scale_of_row(x, g.inputs);
  for (int32_t group = 0; group < g.groups; ++group) {
    int32_t sum = 0;
    int32_t* const filled = ints + g.eights * 8;
    const float* const end = x + smaller((group + 1) * g.group, g.inputs);
    for (const float* from = x + group * g.group; from != end; ++from) {
      *ints = scale.rounded(*from);
      sum += *ints++;
    }
    while (ints != filled) {
      *ints++ = 0;
    }
    offsets[group] = static_cast<float>(sum) * Kind::kOffset;
  }
  return scale.scale;
}

template <class Kind, class G>
__attribute__((noinline)) void few_bits_dynamic_fixed(const G& g, float* out, const float* x, const int32_t* weight,
                                                      const float* bias, const float* residual, int32_t* ints,
                                                      float* floats) {
  fixed_layer<Kind>(g, out, x, weight, bias, residual, ints, floats, dynamic_inputs<Kind>);
}

}  // namespace et
