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

// How elements are summed, scaled and stored.
struct PortableNorm {
  // Adds n elements `step` apart, and their squares.
  static inline __attribute__((always_inline)) void add_moments(int32_t n, const int8_t* x, int32_t step, int32_t& sum,
                                                                int32_t& squares) {
    unrolled(n, [&](int32_t) {
      const int32_t q = *x;
      x += step;
      sum += q;
      squares += q * q;
    });
  }

  static inline __attribute__((always_inline)) int32_t scaled(int32_t add, int32_t v, int32_t multiplier) {
    return add + requantized(v, multiplier, 0);
  }

  static inline __attribute__((always_inline)) int8_t stored(int32_t v) { return saturated(v, -128, 127); }
};

// Of one set: a deviation is count * q - sum, here with `left` zeros behind it, which leave it in 32 bits; the two
// parts of it may not fit, so they count modulo 2^32.
struct Deviations {
  uint32_t count, sum;
  int32_t factor, shift;
};

template <class Core>
inline __attribute__((always_inline)) int8_t normalized(const Deviations& d, int32_t q, int32_t weight, int32_t bias) {
  const int32_t deviation = static_cast<int32_t>(d.count * static_cast<uint32_t>(q) - d.sum);
  return Core::stored(Core::scaled(bias, Core::scaled(0, deviation, d.factor), weight) >> d.shift);
}

// The steps between elements of a row.
struct NormSteps {
  int32_t out, self, parameter;
};

template <class Core>
inline __attribute__((always_inline)) void normalize_row(int32_t n, const Deviations& set, int8_t* out, const int8_t* x,
                                                         const int32_t* weight, const int32_t* bias,
                                                         const NormSteps& steps) {
  const Deviations d = set;
  if (steps.out == 1 && steps.self == 1 && steps.parameter == 1) {
    unrolled(n, [&](int32_t) { *out++ = normalized<Core>(d, *x++, *weight++, *bias++); });
    return;
  }
  const NormSteps by = steps;
  for (; n > 0; --n) {
    *out = normalized<Core>(d, *x, *weight, *bias);
    out += by.out;
    x += by.self;
    weight += by.parameter;
    bias += by.parameter;
  }
}

template <class Core, int32_t kSets, int32_t kDims>
__attribute__((noinline)) void normalize_sets(const Normalized& g, int8_t* out, const int8_t* self,
                                              const int32_t* weight, const int32_t* bias) {
  constexpr int32_t kInner = kDims - 1;
  const int32_t n = g.set_sizes[kInner];
  const NormSteps steps = {g.set_out_strides[kInner], g.set_self_strides[kInner], g.set_parameter_strides[kInner]};
  const auto set = [&](int32_t to, int32_t from, int32_t parameter) {
    int32_t sum = 0;
    int32_t squares = 0;
    each<kInner>(
        g.set_sizes, [&](int32_t at) { Core::add_moments(n, self + from + at, steps.self, sum, squares); },
        Cursor{0, g.set_self_strides});
    // the square of count times the deviation, an integer too
    const uint64_t variance =
        static_cast<uint64_t>(static_cast<int64_t>(g.count) * squares - static_cast<int64_t>(sum) * sum);
    Deviations d = {0, 0, 0, g.shift};  // of a constant set every deviation is 0
    if (variance != 0) {
      uint64_t wide = (variance << 16) + g.eps;
      int32_t left = g.base;
      for (; wide < (UINT64_C(1) << 62); wide <<= 2) {
        ++left;
      }
      d = {static_cast<uint32_t>(g.count) << left, static_cast<uint32_t>(sum) << left,
           reciprocal_root(static_cast<uint32_t>(wide >> 32)), g.shift};
    }
    const auto row = [&](int32_t o, int32_t i, int32_t p) {
      normalize_row<Core>(n, d, out + to + o, self + from + i, weight + parameter + p, bias + parameter + p, steps);
    };
    each<kInner>(g.set_sizes, row, Cursor{0, g.set_out_strides}, Cursor{0, g.set_self_strides},
                 Cursor{0, g.set_parameter_strides});
    if (g.low > -128 || g.high < 127) {  // seldom: nothing but a clamp behind a norm
      const auto clamp = [&](int32_t at) { out[to + at] = saturated(out[to + at], g.low, g.high); };
      each<kDims>(g.set_sizes, clamp, Cursor{0, g.set_out_strides});
    }
  };
  each<kSets>(g.sizes, set, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.parameter_strides});
}

// out may be the memory of self. A parameter that is one for all elements has strides of 0.
template <class Core, class G>
inline void quantized_normalize(const G& g, int8_t* out, const int8_t* self, const int32_t* weight,
                                const int32_t* bias) {
  const uint64_t eps =
      (static_cast<uint64_t>(static_cast<uint32_t>(g.eps_high)) << 32) | static_cast<uint32_t>(g.eps_low);
  normalize_sets<Core, extent_of<decltype(G::sizes)>, extent_of<decltype(G::set_sizes)>>(
      {g.sizes, g.out_strides, g.self_strides, g.parameter_strides, g.set_sizes, g.set_out_strides, g.set_self_strides,
       g.set_parameter_strides, g.count, g.base, eps, g.shift, g.low, g.high},
      out, self, weight, bias);
}

}  // namespace et
