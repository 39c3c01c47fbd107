// An image sampled where a grid says, as spatial transformers do.
#pragma once

#include <math.h>
#include <stdint.h>

#include "et/arithmetic.h"

namespace et {

constexpr int32_t kPadZeros = 0;
constexpr int32_t kPadBorder = 1;
constexpr int32_t kPadReflection = 2;

// A coordinate of the grid, -1 to 1 from edge to edge, in elements of a row or column of `size`. `aligned`: the edges
// are the middles of the outermost elements.
inline float in_elements(float at, int32_t size, bool aligned, int32_t padding) {
  const float last = static_cast<float>(size - 1);
  float place = aligned ? (at + 1.0f) * 0.5f * last : ((at + 1.0f) * static_cast<float>(size) - 1.0f) * 0.5f;
  if (padding == kPadReflection) {
    const float low = aligned ? 0.0f : -0.5f;
    const float span = aligned ? last : static_cast<float>(size);
    if (span == 0.0f) return 0.0f;
    const float distance = fabsf(place - low);
    const float beyond = fmodf(distance, span);
    const bool back = fmodf(floorf(distance / span), 2.0f) != 0.0f;
    place = (back ? span - beyond : beyond) + low;
  }
  return padding == kPadZeros ? place : clamped(place, 0.0f, last);
}

// The element at this place, or null where that is outside. A place that is no number is outside.
inline const float* element(const float* image, float row, float column, int32_t height, int32_t width,
                            int32_t channels) {
  const bool inside =
      row >= 0.0f && column >= 0.0f && row < static_cast<float>(height) && column < static_cast<float>(width);
  return inside ? image + (static_cast<int32_t>(row) * width + static_cast<int32_t>(column)) * channels : nullptr;
}

// (batch, in_height, in_width, channels) and a grid (batch, out_height, out_width, 2) of (x, y). G: these sizes,
// nearest, padding, aligned.
template <class G>
void grid_sample(const G& g, float* out, const float* x, const float* grid) {
  for (int32_t n = 0; n < g.batch; ++n) {
    for (int32_t at = 0; at < g.out_height * g.out_width; ++at) {
      const float column = in_elements(grid[0], g.in_width, g.aligned, g.padding);
      const float row = in_elements(grid[1], g.in_height, g.aligned, g.padding);
      grid += 2;
      if (g.nearest) {
        const float* const found = element(x, rintf(row), rintf(column), g.in_height, g.in_width, g.channels);
        for (int32_t c = 0; c < g.channels; ++c) {
          *out++ = found == nullptr ? 0.0f : found[c];
        }
        continue;
      }
      const float top = floorf(row);
      const float left = floorf(column);
      const float* corners[4];
      float weights[4];
      for (int32_t k = 0; k < 4; ++k) {
        const float down = static_cast<float>(k / 2);
        const float across = static_cast<float>(k % 2);
        corners[k] = element(x, top + down, left + across, g.in_height, g.in_width, g.channels);
        weights[k] = (1.0f - fabsf(row - top - down)) * (1.0f - fabsf(column - left - across));
      }
      for (int32_t c = 0; c < g.channels; ++c) {
        float sum = 0.0f;
        for (int32_t k = 0; k < 4; ++k) {
          if (corners[k] != nullptr) sum += weights[k] * corners[k][c];
        }
        *out++ = sum;
      }
    }
    x += g.in_height * g.in_width * g.channels;
  }
}

}  // namespace et
