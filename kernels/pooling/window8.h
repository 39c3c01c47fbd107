// One window over int8 images, channels last: for each channel the largest value or the average of what is inside.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/requantize.h"
#include "et/strided.h"

namespace et {

// What the rows of a window are: so many bytes apart, or those of a table. next(at): where the next one begins, `at`
// the place of the first, or behind what the table points to.
struct EvenRows {
  int32_t step;

  inline __attribute__((always_inline)) const int8_t* next(const int8_t*& at) const {
    const int8_t* const row = at;
    at += step;
    return row;
  }
};

struct TableRows {
  const int8_t* const* row;

  inline __attribute__((always_inline)) const int8_t* next(int32_t at) { return *row++ + at; }
};

// The elements of one channel: `height` rows of `taps`, so many bytes apart.
template <class Rows>
struct Window8 {
  int32_t height;
  Rows rows;
  int32_t taps, tap_step;
};

// kToEven: the scale stays, and ties go to the even value. kDivided: as TFLite divides, the nearest stored value, ties
// away from 0; scale and zero point stay.
enum class AverageRounding { kNearest, kToEven, kDivided };

// From a sum of stored values to the average: `start` is minus the zero point for each element, `count` what kToEven
// and kDivided divide by.
struct Average8 {
  int32_t start, multiplier, left_shift, count, zero_point, low, high;
};

template <AverageRounding kRounding>
inline __attribute__((always_inline)) int8_t average8(const Average8& how, int32_t sum) {
  if constexpr (kRounding == AverageRounding::kDivided) {
    return static_cast<int8_t>((sum > 0 ? sum + how.count / 2 : sum - how.count / 2) / how.count);
  } else {
    const int32_t total = sum + how.start;
    int32_t v = requantized(total, how.multiplier, how.left_shift);
    if constexpr (kRounding == AverageRounding::kToEven) {
      v = tie_to_even(v, total, how.count);
    }
    return saturated(v + how.zero_point, how.low, how.high);
  }
}

// Four channels at a time, then one.
struct PortableWindows {
  template <int32_t kChannels, class Rows, class Place>
  static inline __attribute__((always_inline)) void sums(const Window8<Rows>& window, int32_t* sums, Place at) {
    int32_t sum[kChannels] = {};  // what has an address would be stored in every round
    const int32_t step = window.tap_step;
    Rows rows = window.rows;
    for (int32_t row = window.height; row > 0; --row) {
      const int8_t* x = rows.next(at);
      for (int32_t tap = window.taps; tap > 0; --tap) {
#pragma GCC unroll 4
        for (int32_t c = 0; c < kChannels; ++c) {
          sum[c] += x[c];
        }
        x += step;
      }
    }
#pragma GCC unroll 4
    for (int32_t c = 0; c < kChannels; ++c) {
      sums[c] = sum[c];
    }
  }

  // Of `channels` neighbours, the first at `at`.
  template <AverageRounding kRounding, class Rows, class Place>
  static __attribute__((noinline)) void average(const Window8<Rows>& window, const Average8& how, int32_t channels,
                                                int8_t* out, Place at) {
    int32_t sum[4];
    for (; channels >= 4; channels -= 4) {
      sums<4>(window, sum, at);
      for (int32_t c = 0; c < 4; ++c) {
        *out++ = average8<kRounding>(how, sum[c]);
      }
      at += 4;
    }
    for (; channels > 0; --channels) {
      sums<1>(window, sum, at++);
      *out++ = average8<kRounding>(how, sum[0]);
    }
  }

  template <int32_t kChannels>
  static inline __attribute__((always_inline)) int8_t* largest(const Window8<TableRows>& window, int8_t* out,
                                                               int32_t at, int32_t low, int32_t high) {
    int32_t best[kChannels];
#pragma GCC unroll 4
    for (int32_t c = 0; c < kChannels; ++c) {
      best[c] = low;
    }
    TableRows rows = window.rows;
    for (int32_t row = window.height; row > 0; --row) {
      const int8_t* x = rows.next(at);
      for (int32_t tap = window.taps; tap > 0; --tap) {
#pragma GCC unroll 4
        for (int32_t c = 0; c < kChannels; ++c) {
          best[c] = larger(best[c], x[c]);
        }
        x += window.tap_step;
      }
    }
#pragma GCC unroll 4
    for (int32_t c = 0; c < kChannels; ++c) {
      *out++ = static_cast<int8_t>(smaller(best[c], high));
    }
    return out;
  }

  // A result is at least `low`.
  static inline __attribute__((always_inline)) void maximum(const Window8<TableRows>& window, int32_t channels,
                                                            int8_t* out, int32_t at, int32_t low, int32_t high) {
    for (; channels >= 4; channels -= 4) {
      out = largest<4>(window, out, at, low, high);
      at += 4;
    }
    for (; channels > 0; --channels) {
      out = largest<1>(window, out, at++, low, high);
    }
  }
};

// Averages of columns: for each index of the nest (sizes, out_strides, self_strides) `channels` neighbours, each over
// one window. G has the members of Window8 and Average8, too, and row_step.
template <class Core, AverageRounding kRounding, class G>
inline void quantized_column_averages(const G& g, int8_t* out, const int8_t* x) {
  const Window8<EvenRows> window = {g.rows, {g.row_step}, g.taps, g.tap_step};
  const Average8 how = {g.start, g.multiplier, g.left_shift, g.count, g.zero_point, g.low, g.high};
  const auto average = [&](int32_t to, int32_t from) {
    Core::template average<kRounding>(window, how, g.channels, out + to, x + from);
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, average, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
