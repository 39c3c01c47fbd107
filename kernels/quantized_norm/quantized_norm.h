// Normalisation of sets of int8 elements to mean 0 and variance 1, then a scale and a shift for each element of a set.
#pragma once

#include <stdint.h>

#include "et/requantize.h"
#include "et/strided.h"

namespace et {

// 2^30 / sqrt(x / 2^32) for x of at least 2^30, by Newton's method from a straight line that is off by 9% at most: each
// round squares the error and takes half as much again. 2^31 - 1 where it would be 2^31.
inline __attribute__((noinline)) int32_t reciprocal_root(uint32_t x) {
  uint32_t y = UINT32_C(2324675986) - (x >> 2) - (x >> 4);  // 2.165 - 1.25 x
  for (int32_t round = 0; round < 4; ++round) {
    const uint32_t square = static_cast<uint32_t>((static_cast<uint64_t>(y) * y) >> 31);
    const uint32_t product =
        static_cast<uint32_t>((static_cast<uint64_t>(x) * square) >> 32);  // about 1, 29 bits behind
    y = static_cast<uint32_t>((static_cast<uint64_t>(y) * ((UINT32_C(3) << 29) - product)) >> 30);
  }
  return static_cast<int32_t>(y > 0x7FFFFFFF ? 0x7FFFFFFF : y);
}

// The loops over sets, and over the elements of one; strides are those of out, self and parameters.
struct Normalized {
  const int32_t* sizes;
  const int32_t* out_strides;
  const int32_t* self_strides;
  const int32_t* parameter_strides;
  const int32_t* set_sizes;
  const int32_t* set_out_strides;
  const int32_t* set_self_strides;
  const int32_t* set_parameter_strides;
  int32_t count;  // elements of a set, 16,384 at most
  int32_t base;   // left shift of a deviation for a variance of 1
  uint64_t eps;   // what is added to the square of count times the deviation, 16 bits behind the point
  int32_t shift;  // bits behind the point before the result is stored
  int32_t low;
  int32_t high;
};

// The deviation of an element from the mean of its set is d = count * q - sum, an integer, and so is the sum of their
// squares, count * (count * sum of squares - sum * sum).
template <int32_t kSets, int32_t kDims>
__attribute__((noinline)) void normalize_sets(const Normalized& g, int8_t* out, const int8_t* self,
                                              const int32_t* weight, const int32_t* bias) {
  const int32_t count = g.count;
  const auto set = [&](int32_t to, int32_t from, int32_t parameter) {
    const int8_t* const x = self + from;
    int32_t sum = 0;
    int32_t squares = 0;
    const auto add = [&](int32_t at) {
      const int32_t q = x[at];
      sum += q;
      squares += q * q;
    };
    each<kDims>(g.set_sizes, add, Cursor{0, g.set_self_strides});
    const uint64_t variance =
        static_cast<uint64_t>(static_cast<int64_t>(count) * squares - static_cast<int64_t>(sum) * sum);
    int32_t factor = 0;  // of a constant set every deviation is 0
    int32_t left = 0;
    if (variance != 0) {
      uint64_t wide = (variance << 16) + g.eps;
      left = g.base;
      while (wide < (UINT64_C(1) << 62)) {
        wide <<= 2;
        ++left;
      }
      factor = reciprocal_root(static_cast<uint32_t>(wide >> 32));
    }
    const auto element = [&](int32_t o, int32_t i, int32_t p) {
      const int32_t deviation = requantized(count * x[i] - sum, factor, left);
      const int32_t scaled = requantized(deviation, weight[parameter + p], 0) + bias[parameter + p];
      out[to + o] = saturated(scaled >> g.shift, g.low, g.high);
    };
    each<kDims>(g.set_sizes, element, Cursor{0, g.set_out_strides}, Cursor{0, g.set_self_strides},
                Cursor{0, g.set_parameter_strides});
  };
  each<kSets>(g.sizes, set, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.parameter_strides});
}

// out may be the memory of self. A parameter that is one for all elements has strides of 0.
template <class G>
inline void quantized_normalize(const G& g, int8_t* out, const int8_t* self, const int32_t* weight,
                                const int32_t* bias) {
  const uint64_t eps =
      (static_cast<uint64_t>(static_cast<uint32_t>(g.eps_high)) << 32) | static_cast<uint32_t>(g.eps_low);
  normalize_sets<extent_of<decltype(G::sizes)>, extent_of<decltype(G::set_sizes)>>(
      {g.sizes, g.out_strides, g.self_strides, g.parameter_strides, g.set_sizes, g.set_out_strides, g.set_self_strides,
       g.set_parameter_strides, g.count, g.base, eps, g.shift, g.low, g.high},
      out, self, weight, bias);
}

}  // namespace et
