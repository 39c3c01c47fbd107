// The unit of work of convolutions and linear layers: a strip of output positions for one block of output channels.
//
// Packed weights (kernels/convolution/packing.py): blocks of L output channels, in each block [k][L], k the taps and
// input channels in the order in which a window reads them. The last block may be narrower and is filled up with zeros.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"

namespace et {

// Consecutive output positions of one row. All distances are in elements.
struct Strip {
  const float* const* rows;  // one pointer for each row of the window
  int32_t kernel_rows;
  int32_t offset;     // from the start of each row to the first input of the first position
  int32_t step;       // from one position to the next
  int32_t positions;  //
  int32_t taps;       // stretches in each row of the window ...
  int32_t tap_step;   // ... this far apart ...
  int32_t length;     // ... of so many inputs each
  const float* weight;
  int32_t weight_skip;  // weights that lie between those of one row of the window and the next (clipped taps)
  const float* bias;
  float* out;
  int32_t out_step;
  const float* residual;  // lies as `out` does, and may be the same memory; null for none
  int32_t channels;       // of the block's, how many are stored
  float low, high;
  int32_t rectify;  // 1 where the clamp is a ReLU
  int32_t lanes;    // channels of the block as packed
};

inline int32_t is_rectify(float low, float high) { return low == 0.0f && high == __builtin_inff() ? 1 : 0; }

// Residual, clamp, store, for kPositions x kChannels results from `position` and `channel` on.
template <int32_t kPositions, int32_t kChannels>
inline __attribute__((always_inline)) void finish(const Strip& strip, int32_t position, int32_t channel,
                                                  float (&sum)[kPositions][kChannels]) {
  const float low = strip.low;  // copies: as far as the compiler knows, a store to `out` could change the strip
  const float high = strip.high;
  const int32_t step = strip.out_step;
  const int32_t first = position * step + channel;
  float* const out = strip.out + first;
  if (strip.residual != nullptr) {
    const float* const residual = strip.residual + first;
    const int32_t channels = strip.channels - channel;
#pragma GCC unroll 8
    for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
      for (int32_t c = 0; c < kChannels; ++c) {
        sum[p][c] += c < channels ? residual[p * step + c] : 0.0f;
      }
    }
  }
  if (low != -__builtin_inff()) {
#pragma GCC unroll 8
    for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
      for (int32_t c = 0; c < kChannels; ++c) {
        sum[p][c] = sum[p][c] < low ? low : sum[p][c];
      }
    }
  }
  if (high != __builtin_inff()) {
#pragma GCC unroll 8
    for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
      for (int32_t c = 0; c < kChannels; ++c) {
        sum[p][c] = sum[p][c] > high ? high : sum[p][c];
      }
    }
  }
  if (channel + kChannels <= strip.channels) {
#pragma GCC unroll 8
    for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
      for (int32_t c = 0; c < kChannels; ++c) {
        out[p * step + c] = sum[p][c];
      }
    }
  } else {
    const int32_t channels = strip.channels - channel;
#pragma GCC unroll 8
    for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
      for (int32_t c = 0; c < kChannels; ++c) {
        if (c < channels) {
          out[p * step + c] = sum[p][c];
        }
      }
    }
  }
}

// kPositions x kChannels results of a block. There must be registers for these sums, as many weights as channels and
// some inputs.
template <int32_t kPositions, int32_t kChannels>
__attribute__((noinline)) void tile(const Strip& strip, int32_t position, int32_t channel) {
  float sum[kPositions][kChannels];
#pragma GCC unroll 8
  for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
    for (int32_t c = 0; c < kChannels; ++c) {
      sum[p][c] = strip.bias[channel + c];
    }
  }
  const float* weight = strip.weight + channel;
  const int32_t lanes = kChannels > 4 ? kChannels : strip.lanes;
  const int32_t at = strip.offset + position * strip.step;
  for (int32_t y = 0; y < strip.kernel_rows; ++y) {
    const float* row = strip.rows[y] + at;
    for (int32_t tap = 0; tap < strip.taps; ++tap) {
      const float* x[kPositions];
#pragma GCC unroll 8
      for (int32_t p = 0; p < kPositions; ++p) {
        x[p] = row + p * strip.step;
      }
      const auto step = [&]() __attribute__((always_inline)) {
        float weights[kChannels];
#pragma GCC unroll 16
        for (int32_t c = 0; c < kChannels; ++c) {
          weights[c] = weight[c];
        }
        weight += lanes;
#pragma GCC unroll 8
        for (int32_t p = 0; p < kPositions; ++p) {
          const float value = *x[p]++;
#pragma GCC unroll 16
          for (int32_t c = 0; c < kChannels; ++c) {
            sum[p][c] += value * weights[c];
          }
        }
      };
      // by hand: the compiler's own unrolling brings three more copies for the remainder
      for (int32_t k = strip.length >> 2; k > 0; --k) {
        step();
        step();
        step();
        step();
      }
      for (int32_t k = strip.length & 3; k > 0; --k) {
        step();
      }
      row += strip.tap_step;
    }
    weight += strip.weight_skip;
  }
  finish(strip, position, channel, sum);
}

// The whole strip: kTile positions at a time, then 3, then single ones, these with all channels of the block at once.
template <int32_t kTile, int32_t kLanes>
__attribute__((noinline)) void run_strip(const Strip& strip) {
  int32_t position = 0;
  if constexpr (kTile > 1) {
    for (; position + kTile <= strip.positions; position += kTile) {
      for (int32_t channel = 0; channel < strip.lanes; channel += 4) {
        tile<kTile, 4>(strip, position, channel);
      }
    }
  }
  if constexpr (kTile > 3) {
    if (position + 3 <= strip.positions) {
      for (int32_t channel = 0; channel < strip.lanes; channel += 4) {
        tile<3, 4>(strip, position, channel);
      }
      position += 3;
    }
  }
  for (; position < strip.positions; ++position) {
    if (kLanes != 4 && strip.lanes == kLanes) {
      tile<1, kLanes>(strip, position, 0);
    } else {
      tile<1, 4>(strip, position, 0);
    }
  }
}

// 4 channels of kPositions positions from `position` on; the strip's stretches are the taps, one input each.
template <int32_t kPositions>
inline __attribute__((always_inline)) void depthwise_tile(const Strip& strip, int32_t position) {
  float sum[kPositions][4];
#pragma GCC unroll 4
  for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 4
    for (int32_t c = 0; c < 4; ++c) {
      sum[p][c] = strip.bias[c];
    }
  }
  const float* weight = strip.weight;
  for (int32_t y = 0; y < strip.kernel_rows; ++y) {
    const float* x = strip.rows[y] + strip.offset + position * strip.step;
    for (int32_t tap = 0; tap < strip.taps; ++tap) {
#pragma GCC unroll 4
      for (int32_t p = 0; p < kPositions; ++p) {
#pragma GCC unroll 4
        for (int32_t c = 0; c < 4; ++c) {
          sum[p][c] += x[p * strip.step + c] * weight[c];
        }
      }
      x += strip.tap_step;
      weight += 4;
    }
    weight += strip.weight_skip;
  }
  finish(strip, position, 0, sum);
}

inline __attribute__((noinline)) void depthwise_strip(const Strip& strip) {
  int32_t position = 0;
  for (; position + 2 <= strip.positions; position += 2) {
    depthwise_tile<2>(strip, position);
  }
  if (position < strip.positions) {
    depthwise_tile<1>(strip, position);
  }
}

// Any core: what fits depends on the number of float registers.
template <int32_t kTile, int32_t kLanes_>
struct Plain {
  static constexpr int32_t kLanes = kLanes_;
  static constexpr int32_t kDepthwiseLanes = 4;
  static constexpr int32_t kBiasWords = 1;

  struct Scope {
    Scope() {}
  };

  static void run(const Strip& strip) { run_strip<kTile, kLanes>(strip); }

  static void depthwise(const Strip& strip) { depthwise_strip(strip); }
};

// Packed weights of some output channels: `elements` for each channel, of which a strip skips `first` at the start and
// `skip` after each row of the window.
struct Weights {
  const float* data;
  const float* bias;
  int32_t outputs, elements, first, skip;
};

// Gives Core every block of output channels in turn; out and residual of `strip` are at channel 0.
template <class Core>
inline void each_block(Strip strip, const Weights& weights) {
  strip.rectify = is_rectify(strip.low, strip.high);
  const typename Core::Scope scope;
  const float* data = weights.data;
  strip.bias = weights.bias;
  for (int32_t done = 0; done < weights.outputs;) {
    const int32_t lanes = weights.outputs - done >= Core::kLanes ? Core::kLanes : 4;
    strip.lanes = lanes;
    strip.channels = smaller(weights.outputs - done, lanes);
    strip.weight = data + weights.first * lanes;
    strip.weight_skip = weights.skip * lanes;
    Core::run(strip);
    done += lanes;
    data += weights.elements * lanes;
    strip.bias += lanes * Core::kBiasWords;
    strip.out += lanes;
    strip.residual = strip.residual == nullptr ? nullptr : strip.residual + lanes;
  }
}

}  // namespace et
