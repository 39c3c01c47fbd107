// Between float and int8 on cores without FPU, in integers: the results of quantize.h, bit for bit. Instructions a
// value on a Cortex-M3 (M0): to int8 38 (104), to float 12 (21), where the compiler's soft-float functions take 242
// (364) and 37 (102), and 3 KB.
#pragma once

#include <stdint.h>
#include <string.h>

#include "et/strided.h"

namespace et {

// value / 2^bits to the nearest integer, ties to even; bits: 1 to 31, value + 2^(bits - 1) below 2^32.
inline uint32_t rounded_shift(uint32_t value, int32_t bits) {
  const uint32_t half = uint32_t{1} << (bits - 1);
  return (value + half - 1 + ((value >> bits) & 1)) >> bits;
}

// real / scale without the zero point, of a float's bits. 1 / scale = mantissa * 2^exponent with 24 bits of mantissa,
// below 2^100. The product is rounded to 24 bits first, as a float is.
inline __attribute__((always_inline)) int32_t scaled_soft(uint32_t bits, uint32_t mantissa, int32_t exponent,
                                                          int32_t low, int32_t high) {
  const int32_t biased = static_cast<int32_t>((bits >> 23) & 255);
  const uint64_t product = uint64_t{(bits & 0x7FFFFF) | 0x800000} * mantissa;  // 47 or 48 bits
  const uint32_t top = static_cast<uint32_t>(product >> 17);
  const uint32_t sticky = (static_cast<uint32_t>(product) & 0x1FFFF) != 0 ? 1 : 0;
  const int32_t dropped = 6 + static_cast<int32_t>(top >> 30);
  const int32_t left = 150 - 17 - exponent - biased - dropped;  // bits of fraction that remain
  if (left > 25) {
    return 0;  // below a half; so are zero and all that is smaller than a float with 24 bits
  }
  if (left < 1) {
    return (bits >> 31) != 0 ? low : high;
  }
  const auto whole = static_cast<int32_t>(rounded_shift(rounded_shift(top | sticky, dropped), left));
  const int32_t v = (bits >> 31) != 0 ? -whole : whole;
  return v < low ? low : (v > high ? high : v);
}

// G: sizes, out_strides, self_strides; mantissa, exponent (of 1 / scale), zero_point, low, high (the bounds minus
// zero_point, within 17 bits). A NaN becomes 0.
template <class G, class Out>
void quantize_soft(const G& g, Out* out, const float* self) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const auto row = [&](int32_t to, int32_t from) {
    for (int32_t i = 0; i < g.sizes[kInner]; ++i) {
      uint32_t bits;
      memcpy(&bits, self + from + i * g.self_strides[kInner], sizeof bits);
      const bool nan = (bits << 1) > 0xFF000000;
      const int32_t v = scaled_soft(bits, g.mantissa, g.exponent, g.low, g.high);
      out[to + i * g.out_strides[kInner]] = static_cast<Out>(nan ? 0 : v + g.zero_point);
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

// magnitude * mantissa * 2^exponent as the bits of a float: 24 bits of mantissa, a magnitude below 256, a result that
// is neither subnormal nor infinite.
inline uint32_t real_soft(uint32_t magnitude, uint32_t mantissa, int32_t exponent) {
  if (magnitude == 0) {
    return 0;
  }
  const uint32_t product = magnitude * mantissa;  // 24 to 32 bits
  int32_t dropped = 0;
  while ((product >> dropped) > 0xFFFFFF) {
    ++dropped;
  }
  const uint32_t rounded = dropped > 0 ? rounded_shift(product, dropped) : product;
  return (static_cast<uint32_t>(exponent + 149 + dropped) << 23) + rounded;  // the bit that a float hides adds 1
}

// G: sizes, out_strides, self_strides; mantissa, exponent (of the scale), zero_point.
template <class G, class In>
void dequantize_soft(const G& g, float* out, const In* self) {
  static_assert(sizeof(In) == 1, "a product of 32 bits");
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const auto row = [&](int32_t to, int32_t from) {
    for (int32_t i = 0; i < g.sizes[kInner]; ++i) {
      const int32_t v = self[from + i * g.self_strides[kInner]] - g.zero_point;
      const uint32_t sign = v < 0 ? 0x80000000 : 0;
      const uint32_t bits = sign | real_soft(static_cast<uint32_t>(v < 0 ? -v : v), g.mantissa, g.exponent);
      memcpy(out + to + i * g.out_strides[kInner], &bits, sizeof bits);
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
