// Sums and products of int8 tensors on Armv7E-M with DSP instructions: the same results as quantized.h, four at
// a time. Instructions a result: sums 5.3, with bounds of their own 7; products 6.
#pragma once

#include <stdint.h>

#include "binary/quantized.h"
#include "et/dsp.h"
#include "et/requantize.h"
#include "et/strided.h"

namespace et {

// Rows in which `out` and one operand lie without gaps and the other does, too, or is one value go to
// row(out, self, self_step, other, other_step, n); the elements of all others to f.
template <class G, class Row, class F>
inline __attribute__((always_inline)) void zip_rows(const G& g, int8_t* out, const int8_t* self, const int8_t* other,
                                                    const Row& row, const F& f) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const int32_t other_step = g.other_strides[kInner];
  const bool rows = out_step == 1 && (self_step | other_step) == 1;
  const auto line = [&](int32_t to, int32_t left, int32_t right) {
    if (rows) {
      row(out + to, self + left, self_step, other + right, other_step, n);
    } else {
      for (int32_t i = 0; i < n; ++i) {
        out[to + i * out_step] = f(self[left + i * self_step], other[right + i * other_step]);
      }
    }
  };
  each<kInner>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.other_strides});
}

// (a * lower multiplier + b * upper multiplier + constant) >> kShift
template <int32_t kShift>
__attribute__((noinline)) void add_row(int8_t* out, const int8_t* a, const int8_t* b, int32_t n, uint32_t multipliers,
                                       int32_t constant) {
  for (int32_t quads = n >> 2; quads > 0; --quads) {
    const uint32_t first = load4(a);
    const uint32_t second = load4(b);
    const uint32_t lower = lower_halves(second, first);  // two of a and two of b
    const uint32_t upper = upper_halves(second, first);
    const int32_t s0 = multiply_both(even_bytes(lower), multipliers, constant);
    const int32_t s1 = multiply_both(odd_bytes(lower), multipliers, constant);
    const int32_t s2 = multiply_both(even_bytes(upper), multipliers, constant);
    const int32_t s3 = multiply_both(odd_bytes(upper), multipliers, constant);
    put_shifted8<kShift>(out, s0);
    put_shifted8<kShift>(out, s1);
    put_shifted8<kShift>(out, s2);
    put_shifted8<kShift>(out, s3);
    a += 4;
    b += 4;
  }
  for (n &= 3; n > 0; --n) {
    const uint32_t pair = lower_halves(static_cast<uint32_t>(*b++), static_cast<uint32_t>(*a++));
    put_shifted8<kShift>(out, multiply_both(pair, multipliers, constant));
  }
}

// As quantized_add. kBounds: low and high are not int8's own.
template <int32_t kShift, bool kBounds, class G>
inline void quantized_add_dsp(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t ma = g.self_multiplier;
  const int32_t mb = g.other_multiplier;
  const auto row = [&](int8_t* to, const int8_t* a, int32_t a_step, const int8_t* b, int32_t b_step, int32_t n) {
    // one value for the whole row is a part of the constant
    const uint32_t left = static_cast<uint32_t>(a_step == 0 ? 0 : ma);
    const uint32_t right = static_cast<uint32_t>(b_step == 0 ? 0 : mb);
    const int32_t constant = g.constant + (a_step == 0 ? *a * ma : 0) + (b_step == 0 ? *b * mb : 0);
    add_row<kShift>(to, a_step == 0 ? b : a, b_step == 0 ? a : b, n, lower_halves(right, left), constant);
    if constexpr (kBounds) {
      clamp4(to, n, g.low, g.high);
    }
  };
  zip_rows(g, out, self, other, row,
           [&](int8_t a, int8_t b) { return saturated((a * ma + b * mb + g.constant) >> kShift, g.low, g.high); });
}

struct Product8 {
  int32_t self_zero, other_zero, multiplier, zero_point;
};

inline __attribute__((noinline)) void multiply_row(const Product8& how, int8_t* out, const int8_t* a, const int8_t* b,
                                                   int32_t n) {
  const uint32_t below_a = two_of(-how.self_zero);
  const uint32_t below_b = two_of(-how.other_zero);
  const int32_t multiplier = how.multiplier;
  const int32_t zero = how.zero_point;
  for (int32_t quads = n >> 2; quads > 0; --quads) {
    const uint32_t first = load4(a);
    const uint32_t second = load4(b);
    const uint32_t even_a = add_even_bytes(below_a, first);
    const uint32_t even_b = add_even_bytes(below_b, second);
    const uint32_t odd_a = add_odd_bytes(below_a, first);
    const uint32_t odd_b = add_odd_bytes(below_b, second);
    put_saturated8(out, requantized_to(zero, multiply_lower(even_a, even_b), multiplier));
    put_saturated8(out, requantized_to(zero, multiply_lower(odd_a, odd_b), multiplier));
    put_saturated8(out, requantized_to(zero, multiply_upper(even_a, even_b), multiplier));
    put_saturated8(out, requantized_to(zero, multiply_upper(odd_a, odd_b), multiplier));
    a += 4;
    b += 4;
  }
  for (n &= 3; n > 0; --n) {
    const int32_t product = (*a++ - how.self_zero) * (*b++ - how.other_zero);
    put_saturated8(out, requantized_to(zero, product, multiplier));
  }
}

// By one value: (a - how.self_zero) * other
inline __attribute__((noinline)) void multiply_row_by(const Product8& how, int8_t* out, const int8_t* a, int32_t other,
                                                      int32_t n) {
  const uint32_t below_a = two_of(-how.self_zero);
  const uint32_t factor = two_of(other);
  const int32_t multiplier = how.multiplier;
  const int32_t zero = how.zero_point;
  for (int32_t quads = n >> 2; quads > 0; --quads) {
    const uint32_t first = load4(a);
    const uint32_t even = add_even_bytes(below_a, first);
    const uint32_t odd = add_odd_bytes(below_a, first);
    put_saturated8(out, requantized_to(zero, multiply_lower(even, factor), multiplier));
    put_saturated8(out, requantized_to(zero, multiply_lower(odd, factor), multiplier));
    put_saturated8(out, requantized_to(zero, multiply_upper(even, factor), multiplier));
    put_saturated8(out, requantized_to(zero, multiply_upper(odd, factor), multiplier));
    a += 4;
  }
  for (n &= 3; n > 0; --n) {
    put_saturated8(out, requantized_to(zero, (*a++ - how.self_zero) * other, multiplier));
  }
}

// As quantized_mul where left_shift is 0.
template <class G>
inline void quantized_mul_dsp(const G& g, int8_t* out, const int8_t* self, const int8_t* other) {
  const int32_t za = g.self_zero_point;
  const int32_t zb = g.other_zero_point;
  const Product8 how = {za, zb, g.multiplier, g.zero_point};
  const Product8 turned = {zb, za, g.multiplier, g.zero_point};
  const auto row = [&](int8_t* to, const int8_t* a, int32_t a_step, const int8_t* b, int32_t b_step, int32_t n) {
    if (b_step == 0) {
      multiply_row_by(how, to, a, *b - zb, n);
    } else if (a_step == 0) {
      multiply_row_by(turned, to, b, *a - za, n);
    } else {
      multiply_row(how, to, a, b, n);
    }
  };
  zip_rows(g, out, self, other, row, [&](int8_t a, int8_t b) {
    return saturated(requantized((a - za) * (b - zb), g.multiplier, 0) + g.zero_point, -128, 127);
  });
}

}  // namespace et
