// Windows over int8 images on Armv7E-M with DSP instructions: the results of window8.h, 4 * kWords channels at a time;
// the last ones of a pixel may be computed twice. Instructions for an element of a window, in the loop: averages 1.1,
// maxima 1.1 (kWords 2), 1.5 (kWords 1).
#pragma once

#include <stdint.h>

#include "et/dsp.h"
#include "pooling/window8.h"

namespace et {

// There are at least 4 * kWords channels. kLong: windows may have more than 255 elements, the most whose sum fits 16
// bits. kBounds: low and high are not int8's own.
template <int32_t kWords, bool kLong, bool kBounds>
struct DspWindows {
  static constexpr int32_t kChannels = 4 * kWords;
  static constexpr int32_t kMost = 255;

  // Pairs of sums of 16 bits.
  struct Pairs {
    uint32_t even[kWords], odd[kWords];
  };

  static inline __attribute__((always_inline)) const int8_t* add(Pairs& pairs, const int8_t* x, int32_t taps,
                                                                 int32_t step) {
    for (; taps > 0; --taps) {
#pragma GCC unroll 4
      for (int32_t word = 0; word < kWords; ++word) {
        const uint32_t four = load4(x + 4 * word);
        pairs.even[word] = add_even_bytes(pairs.even[word], four);
        pairs.odd[word] = add_odd_bytes(pairs.odd[word], four);
      }
      x += step;
    }
    return x;
  }

  // Calls body(sum) for each channel in turn.
  template <class Body>
  static inline __attribute__((always_inline)) void each_sum(const Pairs& pairs, const Body& body) {
#pragma GCC unroll 4
    for (int32_t word = 0; word < kWords; ++word) {
      body(lower_of(pairs.even[word]));
      body(lower_of(pairs.odd[word]));
      body(upper_of(pairs.even[word]));
      body(upper_of(pairs.odd[word]));
    }
  }

  // how.left_shift is 0.
  template <AverageRounding kRounding, class Rows, class Place>
  static __attribute__((noinline)) void average(const Window8<Rows>& window, const Average8& how, int32_t channels,
                                                int8_t* out, Place begin) {
    const Window8<Rows> local = window;
    const int32_t start = how.start;
    const int32_t multiplier = how.multiplier;
    const int32_t zero = how.zero_point;
    const int32_t count = how.count;
    const auto put = [=](int8_t*& to, int32_t sum) {
      if constexpr (kRounding == AverageRounding::kToEven) {
        const int32_t total = sum + start;
        put_saturated8(to, tie_to_even(requantized_to(0, total, multiplier), total, count) + zero);
      } else {
        put_saturated8(to, requantized_to(zero, sum + start, multiplier));
      }
    };
    for (int32_t channel = 0; channel < channels; channel += kChannels) {
      const int32_t first = smaller(channel, channels - kChannels);
      Place at = begin + first;
      Rows rows = local.rows;
      int8_t* to = out + first;
      Pairs pairs = {};
      if constexpr (kLong) {
        int32_t sums[kChannels] = {};
        for (int32_t y = local.height; y > 0; --y) {
          const int8_t* row = rows.next(at);
          for (int32_t left = local.taps; left > 0; left -= kMost) {
            row = add(pairs, row, smaller(left, kMost), local.tap_step);
            int32_t* sum = sums;
            each_sum(pairs, [&](int32_t more) { *sum++ += more; });
            pairs = {};
          }
        }
        for (int32_t c = 0; c < kChannels; ++c) {
          put(to, sums[c]);
        }
      } else {
        for (int32_t y = local.height; y > 0; --y) {
          add(pairs, rows.next(at), local.taps, local.tap_step);
        }
        each_sum(pairs, [&](int32_t sum) { put(to, sum); });
      }
    }
    if constexpr (kBounds) {
      clamp4(out, channels, how.low, how.high);
    }
  }

  static inline __attribute__((always_inline)) void maximum(const Window8<TableRows>& window, int32_t channels,
                                                            int8_t* out, int32_t at, int32_t low, int32_t high) {
    const uint32_t lows = four_of(low);
    const uint32_t highs = four_of(high);
    for (int32_t channel = 0; channel < channels; channel += kChannels) {
      const int32_t first = smaller(channel, channels - kChannels);
      uint32_t best[kWords];
#pragma GCC unroll 4
      for (int32_t word = 0; word < kWords; ++word) {
        best[word] = lows;
      }
      TableRows rows = window.rows;
      for (int32_t y = window.height; y > 0; --y) {
        const int8_t* x = rows.next(at + first);
        for (int32_t tap = window.taps; tap > 0; --tap) {
#pragma GCC unroll 4
          for (int32_t word = 0; word < kWords; ++word) {
            best[word] = larger4(best[word], load4(x + 4 * word));
          }
          x += window.tap_step;
        }
      }
#pragma GCC unroll 4
      for (int32_t word = 0; word < kWords; ++word) {
        store4(out + first + 4 * word, kBounds ? smaller4(best[word], highs) : best[word]);
      }
    }
  }
};

}  // namespace et
