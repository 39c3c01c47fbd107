// Pooling of channels-last rows of floats.
#pragma once

#include <stdint.h>

#include "pooling/reach.h"

namespace et {

// A NaN in a window is its maximum, as in PyTorch.
struct Largest {
  float best = -__builtin_inff();

  static Largest of(const Reach&) { return {}; }
  inline __attribute__((always_inline)) void take(float value) { best = value <= best || best != best ? best : value; }
  inline __attribute__((always_inline)) float result() const { return best; }
};

struct Mean {
  float scale, sum = 0.0f;

  inline __attribute__((always_inline)) void take(float value) { sum += value; }
  inline __attribute__((always_inline)) float result() const { return sum * scale; }
};

// Of windows of which so many rows count. Divisor 0: the number of elements that count.
struct Means {
  int32_t divisor, rows;

  Mean of(const Reach& columns) const {
    return {1.0f / static_cast<float>(divisor != 0 ? divisor : rows * columns.counted)};
  }
};

struct PooledRow {
  int32_t out_width, channels;
  float low, high;
};

// kLanes channels of a window: `taps` elements `step` apart of each row, the first of which lies `at` behind its start.
template <int32_t kLanes, class Fold>
inline __attribute__((always_inline)) void pool_lanes(float* out, const float* const* rows, const float* const* end,
                                                      int32_t taps, int32_t step, int32_t at, const Fold& begin,
                                                      float low, float high) {
  Fold folds[kLanes];
#pragma GCC unroll 4
  for (int32_t c = 0; c < kLanes; ++c) {
    folds[c] = begin;
  }
  for (; rows != end; ++rows) {
    const float* x = *rows + at;
    for (int32_t tap = 0; tap < taps; ++tap) {
#pragma GCC unroll 4
      for (int32_t c = 0; c < kLanes; ++c) {
        folds[c].take(x[c]);
      }
      x += step;
    }
  }
#pragma GCC unroll 4
  for (int32_t c = 0; c < kLanes; ++c) {
    out[c] = clamped(folds[c].result(), low, high);
  }
}

// One output row, (out_width, channels), of windows that have the rows [rows, end). Folds: Largest or Means.
template <class Across, class Folds>
__attribute__((noinline)) void pool_row(const PooledRow& shape, const Across& across, const Folds& folds, float* out,
                                        const float* const* rows, const float* const* end) {
  const int32_t channels = shape.channels;
  const int32_t step = across.dilation * channels;
  const float low = shape.low;  // what is stored might be the shape
  const float high = shape.high;
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const Reach reach = across.of(position);
    const auto begin = folds.of(reach);
    const int32_t at = reach.at * channels;
    int32_t channel = 0;
    for (; channel + 4 <= channels; channel += 4) {
      pool_lanes<4>(out + channel, rows, end, reach.taps, step, at + channel, begin, low, high);
    }
    for (; channel < channels; ++channel) {
      pool_lanes<1>(out + channel, rows, end, reach.taps, step, at + channel, begin, low, high);
    }
    out += channels;
  }
}

template <class Across, class Down, class G>
inline void avg_pool(const G& g, float* out, const float* const* rows, int32_t row) {
  const Reach down = Down::down(g).of(row);
  rows += down.first;
  pool_row<Across, Means>({g.out_width, g.channels, g.low, g.high}, Across::across(g), {g.divisor, down.counted}, out,
                          rows, rows + down.taps);
}

template <class Across, class Down, class G>
inline void max_pool(const G& g, float* out, const float* const* rows, int32_t row) {
  const Reach down = Down::down(g).of(row);
  rows += down.first;
  pool_row<Across, Largest>({g.out_width, g.channels, g.low, g.high}, Across::across(g), {}, out, rows,
                            rows + down.taps);
}

}  // namespace et
