// Strips on cores that multiply 32 by 32 bits but have no FPU (Cortex-M3, RISC-V without F): sums in block fixed point.
//
// The compiler's soft-float functions take 70 instructions for a product and a sum. Here the inputs of a window become
// integers with the exponent of the largest, in flash the weights are such integers already
// (kernels/convolution/packing.py), and a product is added to 64 bits by one instruction. Instructions on a Cortex-M3:
// 23 for 4 multiply-accumulates in the loop, 13 of them to make an input an integer; 150 for a result. The error is at
// most 2^-27 of the largest input times the weights, and 2^-23 of the largest weight times the inputs.
#pragma once

#include <stdint.h>
#include <string.h>

#include "convolution/convolution.h"
#include "convolution/depthwise.h"
#include "convolution/transposed.h"

namespace et {

// Of an input below its block's largest power of two. The packer gives a weight as many as sums of 63 bits leave.
constexpr int32_t kInputBits = 26;

// The least biased exponent of a block: with it a float whose own is 0, as that of zero, is shifted away.
constexpr int32_t kSmallest = kInputBits + 1;

constexpr int32_t kFixedLanes = 16;  // channels of a block

inline __attribute__((always_inline)) uint32_t bits_of(const float* x) {
  uint32_t bits;
  memcpy(&bits, x, sizeof bits);
  return bits;
}

// `shift`: the block's largest biased exponent + 31 - kInputBits.
inline __attribute__((always_inline)) int32_t fixed_of(uint32_t bits, int32_t shift) {
  const int32_t places = shift - static_cast<int32_t>((bits >> 23) & 255);
  const uint32_t magnitude = places < 32 ? ((bits << 8) | 0x80000000) >> places : 0;
  const auto sign = static_cast<int32_t>(bits) >> 31;
  return (static_cast<int32_t>(magnitude) ^ sign) - sign;
}

// sum * 2^exponent.
inline __attribute__((noinline)) float float_of(int64_t sum, int32_t exponent) {
  uint64_t magnitude = sum < 0 ? -static_cast<uint64_t>(sum) : static_cast<uint64_t>(sum);
  auto high = static_cast<uint32_t>(magnitude >> 32);
  if (high == 0) {
    if (sum == 0) {
      return 0.0f;
    }
    magnitude <<= 32;
    exponent -= 32;
    high = static_cast<uint32_t>(magnitude >> 32);
  }
  const int32_t zeros = __builtin_clz(high);
  magnitude <<= zeros;
  const auto low = static_cast<uint32_t>(magnitude) != 0 ? 1u : 0u;
  high = static_cast<uint32_t>(magnitude >> 32) | low;
  const uint32_t rounded = (high >> 8) + ((high & 255) + ((high >> 8) & 1) > 128 ? 1 : 0);
  const int32_t biased = exponent - zeros + 40 + 149;  // less the bit that a float hides
  uint32_t bits = biased < 0 ? 0 : (biased > 253 ? 0x7F800000 : (static_cast<uint32_t>(biased) << 23) + rounded);
  bits |= sum < 0 ? 0x80000000 : 0;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// sum * 2^exponent + bias; the sum is below 2^62, the bias finite.
inline __attribute__((always_inline)) float with_bias(int64_t sum, int32_t exponent, const float* bias) {
  const uint32_t bits = bits_of(bias);
  const auto biased = static_cast<int32_t>((bits >> 23) & 255);
  const int32_t places = biased - 150 - exponent;
  if (biased == 0) {
    return float_of(sum, exponent);
  }
  if (places > 37) {  // the sum is little beside it
    return float_of(sum, exponent) + *bias;
  }
  const auto sign = static_cast<int32_t>(bits) >> 31;
  const int32_t value = (static_cast<int32_t>((bits & 0x7FFFFF) | 0x800000) ^ sign) - sign;
  if (places >= 0) {
    sum += static_cast<int64_t>(static_cast<uint64_t>(int64_t{value}) << places);
  } else if (places > -32) {
    sum += value >> -places;
  }
  return float_of(sum, exponent);
}

// The bits of the largest magnitude among the inputs of a window, `length` of them at each tap.
inline __attribute__((noinline)) uint32_t largest_bits(const Strip& strip, int32_t at, int32_t length) {
  uint32_t most = 0;
  for (int32_t y = 0; y < strip.kernel_rows; ++y) {
    const float* row = strip.rows[y] + at;
    for (int32_t tap = 0; tap < strip.taps; ++tap) {
      for (int32_t k = 0; k < length; ++k) {
        const uint32_t bits = bits_of(row + k) << 1;
        most = bits > most ? bits : most;
      }
      row += strip.tap_step;
    }
  }
  return most >> 1;
}

// sum[c] += x[k] * weight[k][c] for `length` inputs, as integers. By itself, so that the sums stay in registers.
template <int32_t kLanes>
inline __attribute__((noinline)) const int32_t* fixed_products(const float* x, int32_t length, const int32_t* weight,
                                                               int32_t shift, int64_t* sum) {
  int64_t a = sum[0];
  int64_t b = sum[1];
  int64_t c = sum[2];
  int64_t d = sum[3];
  for (const float* const end = x + length; x != end; ++x) {
    const int32_t value = fixed_of(bits_of(x), shift);
    a += int64_t{value} * weight[0];
    b += int64_t{value} * weight[1];
    c += int64_t{value} * weight[2];
    d += int64_t{value} * weight[3];
    weight += kLanes;
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
  return weight;
}

// As above, each channel with an input of its own, at `taps` places.
inline __attribute__((noinline)) const int32_t* fixed_products_of_channels(const float* x, int32_t taps,
                                                                           int32_t tap_step, const int32_t* weight,
                                                                           int32_t shift, int64_t* sum) {
  int64_t a = sum[0];
  int64_t b = sum[1];
  int64_t c = sum[2];
  int64_t d = sum[3];
  for (const int32_t* const end = weight + 4 * taps; weight != end; weight += 4) {
    a += int64_t{fixed_of(bits_of(x), shift)} * weight[0];
    b += int64_t{fixed_of(bits_of(x + 1), shift)} * weight[1];
    c += int64_t{fixed_of(bits_of(x + 2), shift)} * weight[2];
    d += int64_t{fixed_of(bits_of(x + 3), shift)} * weight[3];
    x += tap_step;
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
  return weight;
}

// The sums of 4 channels from `channel` of a block on, for the window at `at`.
template <bool kDepthwise>
inline void fixed_sums(const Strip& strip, int32_t at, int32_t channel, int32_t shift, int64_t* sum) {
  const auto* weight = reinterpret_cast<const int32_t*>(strip.weight) + channel;
  for (int32_t y = 0; y < strip.kernel_rows; ++y) {
    const float* x = strip.rows[y] + at;
    if constexpr (kDepthwise) {
      weight = fixed_products_of_channels(x, strip.taps, strip.tap_step, weight, shift, sum);
    } else {
      for (int32_t tap = 0; tap < strip.taps; ++tap) {
        weight = strip.lanes == 4 ? fixed_products<4>(x, strip.length, weight, shift, sum)
                                  : fixed_products<kFixedLanes>(x, strip.length, weight, shift, sum);
        x += strip.tap_step;
      }
    }
    weight += strip.weight_skip;
  }
}

// The same in float, where an input is NaN or infinite, or all are tiny.
template <bool kDepthwise>
inline __attribute__((noinline)) void real_sums(const Strip& strip, int32_t at, int32_t channel,
                                                const int32_t* exponent, float* sum) {
  for (int32_t c = 0; c < 4; ++c) {
    sum[c] = strip.bias[channel + c];
  }
  const int32_t lanes = kDepthwise ? 4 : strip.lanes;
  const auto* weight = reinterpret_cast<const int32_t*>(strip.weight) + channel;
  for (int32_t y = 0; y < strip.kernel_rows; ++y) {
    const float* x = strip.rows[y] + at;
    for (int32_t tap = 0; tap < strip.taps; ++tap) {
      for (int32_t k = 0; k < (kDepthwise ? 1 : strip.length); ++k) {
        for (int32_t c = 0; c < 4; ++c) {
          sum[c] += x[kDepthwise ? c : k] * float_of(weight[c], exponent[c]);
        }
        weight += lanes;
      }
      x += strip.tap_step;
    }
    weight += strip.weight_skip;
  }
}

// Clamps without calls: floats of one sign are ordered as their bits. A NaN stays one.
inline uint32_t clamped_bits(uint32_t bits, int32_t low, int32_t high) {
  const auto order = [](int32_t of) {
    return of < 0 ? static_cast<int32_t>(0x80000000u - static_cast<uint32_t>(of)) : of;
  };
  if ((bits << 1) > 0xFF000000) {
    return bits;
  }
  const int32_t at = order(static_cast<int32_t>(bits));
  return static_cast<uint32_t>(at < order(low) ? low : (at > order(high) ? high : static_cast<int32_t>(bits)));
}

template <bool kDepthwise>
inline __attribute__((always_inline)) void fixed_strip(const Strip& strip) {
  const int32_t lanes = kDepthwise ? 4 : strip.lanes;
  const auto low = static_cast<int32_t>(bits_of(&strip.low));
  const auto high = static_cast<int32_t>(bits_of(&strip.high));
  for (int32_t position = 0; position < strip.positions; ++position) {
    const int32_t at = strip.offset + position * strip.step;
    const uint32_t most = largest_bits(strip, at, kDepthwise ? 4 : strip.length);
    const int32_t biased = most == 0 ? kSmallest : static_cast<int32_t>(most >> 23);
    const bool in_float = biased < kSmallest || biased == 255;
    for (int32_t channel = 0; channel < lanes; channel += 4) {
      const float* const bias = strip.bias + channel;
      const auto* exponent = reinterpret_cast<const int32_t*>(bias + lanes);
      float result[4];
      if (in_float) {
        real_sums<kDepthwise>(strip, at, channel, exponent, result);
      } else {
        int64_t sum[4] = {};
        fixed_sums<kDepthwise>(strip, at, channel, biased + 31 - kInputBits, sum);
        for (int32_t c = 0; c < 4; ++c) {
          result[c] = with_bias(sum[c], biased - 127 - kInputBits + exponent[c], bias + c);
        }
      }
      for (int32_t c = 0; c < 4 && channel + c < strip.channels; ++c) {
        const int32_t to = position * strip.out_step + channel + c;
        if (strip.residual != nullptr) {
          result[c] += strip.residual[to];
        }
        const uint32_t bits = clamped_bits(bits_of(result + c), low, high);
        memcpy(strip.out + to, &bits, sizeof bits);
      }
    }
  }
}

struct Fixed {
  static constexpr int32_t kLanes = kFixedLanes;
  static constexpr int32_t kDepthwiseLanes = 4;
  static constexpr int32_t kBiasWords = 2;  // a block's biases, then its exponents

  struct Scope {
    Scope() {}
  };

  static __attribute__((noinline)) void run(const Strip& strip) { fixed_strip<false>(strip); }

  static __attribute__((noinline)) void depthwise(const Strip& strip) { fixed_strip<true>(strip); }
};

}  // namespace et
