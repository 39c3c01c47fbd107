// Mean of int8 values over any set of dimensions.
#pragma once

#include <stdint.h>

#include "et/requantize.h"
#include "et/strided.h"

namespace et {

// The sum of n elements `step` apart.
struct PortableSum {
  static int32_t of(const int8_t* x, int32_t n, int32_t step) {
    int32_t sum = 0;
    unrolled(n, [&](int32_t) {
      sum += *x;
      x += step;
    });
    return sum;
  }
};

// G: sizes, out_strides, self_strides of the dimensions that stay; reduced_sizes, reduced_strides of those that go;
// start, minus the zero point for each element of a sum; multiplier, left_shift, out_zero_point; terms_that_tie, the
// number of elements where the scale stays and ties go to even, else 0.
template <class Sum, class G>
void quantized_mean(const G& g, int8_t* out, const int8_t* self) {
  constexpr int32_t kInner = extent_of<decltype(G::reduced_sizes)> - 1;
  const int32_t n = g.reduced_sizes[kInner];
  const int32_t stride = g.reduced_strides[kInner];
  const auto element = [&](int32_t to, int32_t from) {
    int32_t sum = g.start;
    each<kInner>(
        g.reduced_sizes, [&](int32_t at) { sum += Sum::of(self + from + at, n, stride); },
        Cursor{0, g.reduced_strides});
    int32_t v = requantized(sum, g.multiplier, g.left_shift);
    if (g.terms_that_tie != 0) v = tie_to_even(v, sum, g.terms_that_tie);
    out[to] = saturated(v + g.out_zero_point, -128, 127);
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, element, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
