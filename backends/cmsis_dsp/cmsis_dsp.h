#pragma once

#include <stdint.h>

// Its own headers need those of C++, which not every toolchain has: C lies between.
extern "C" {
void et_cmsis_transform(float* out, const float* x, const float* window, const float* inner, const float* outer,
                        const int16_t* swaps, int32_t swap_count, int32_t length, int32_t hop, int32_t frames,
                        int32_t bin_step, int32_t frame_step, float* scratch);
void et_cmsis_filter(float* out, const float* x, const float* taps, int32_t tap_count, float bias, int32_t count,
                     int32_t block, float* state);
void et_cmsis_product(float* out, const float* left, const float* right, const float* bias, int32_t rows, int32_t inner,
                      int32_t columns);
}

namespace et {

// Windowed frames of x, `hop` apart, to the real parts of all bins and then the imaginary ones.
template <class G>
inline void cmsis_transform(const G& g, float* out, const float* x, const float* window, const float* inner,
                            const float* outer, const int16_t* swaps, float* scratch) {
  for (int32_t image = 0; image < g.images; ++image) {
    et_cmsis_transform(out, x, window, inner, outer, swaps, g.swaps, g.length, g.hop, g.frames, g.bin_step,
                       g.frame_step, scratch);
    out += g.frames * (g.length + 2);
    x += g.image;
  }
}

// Each channel by taps of its own; (rows, count + taps - 1) to (rows, count).
template <class G>
inline void cmsis_filter(const G& g, float* out, const float* x, const float* taps, const float* bias, float* state) {
  for (int32_t row = 0; row < g.rows; ++row) {
    const int32_t channel = row % g.channels;
    et_cmsis_filter(out, x, taps + channel * g.taps, g.taps, bias != nullptr ? bias[channel] : 0.0f, g.count, g.block,
                    state);
    out += g.count;
    x += g.count + g.taps - 1;
  }
}

// (matrices, rows, inner) by (matrices, inner, columns).
template <class G>
inline void cmsis_product(const G& g, float* out, const float* left, const float* right, const float* bias) {
  for (int32_t matrix = 0; matrix < g.matrices; ++matrix) {
    et_cmsis_product(out, left, right, bias, g.rows, g.inner, g.columns);
    out += g.rows * g.columns;
    left += g.rows * g.inner;
    right += g.inner * g.columns;
  }
}

}  // namespace et
