// int8 transposed convolution over (n, h, w, c): each output position with the taps that it sees.
#pragma once

#include <stdint.h>

#include "quantized_convolution/dense.h"

namespace et {

// One direction. Outputs at distances of `stride` see the same taps: phase (o + pad) % stride sees `count` of them, of
// which the first lies at input (o + pad - reach) / stride, each further one `back` inputs before.
struct Phases8 {
  int32_t in_size, out_size, stride, pad, back;
  const int32_t* reach;
  const int32_t* count;
};

struct Transposed8 {
  int32_t batch, inputs, outputs, input_zero;
  Phases8 y, x;
  const int32_t* offset;  // bytes from the start of the packed weights to those of phase (y, x)
  Store8 store;
};

// outside: `inputs` bytes of the input's zero point.
template <Scale8 kScale, class Tile>
__attribute__((noinline)) void transposed8(const Transposed8& layer, int8_t* out, const int8_t* in,
                                           const int8_t* packed, const int8_t* outside) {
  for (int32_t n = 0; n < layer.batch; ++n) {
    for (int32_t y = 0; y < layer.y.out_size; ++y) {
      const int32_t phase_y = (y + layer.y.pad) % layer.y.stride;
      const int32_t bottom = (y + layer.y.pad - layer.y.reach[phase_y]) / layer.y.stride;
      for (int32_t x = 0; x < layer.x.out_size; ++x) {
        const int32_t phase_x = (x + layer.x.pad) % layer.x.stride;
        const int32_t right = (x + layer.x.pad - layer.x.reach[phase_x]) / layer.x.stride;
        const auto at = [&](int32_t ky, int32_t kx) {
          const int32_t row = bottom - ky * layer.y.back;
          const int32_t column = right - kx * layer.x.back;
          const bool inside = row >= 0 && row < layer.y.in_size && column >= 0 && column < layer.x.in_size;
          return inside ? in + (row * layer.x.in_size + column) * layer.inputs : outside;
        };
        position8<kScale, Tile>(layer.store, layer.outputs, out, layer.y.count[phase_y], layer.x.count[phase_x],
                                layer.inputs, packed + layer.offset[phase_y * layer.x.stride + phase_x], at);
        out += layer.outputs;
      }
    }
    in += layer.y.in_size * layer.x.in_size * layer.inputs;
  }
}

// G: batch, inputs, outputs, input_zero; in_sizes, out_sizes, strides, pads, backs (y, x); reach_y, count_y, reach_x,
// count_x by phase; offsets; zero_point, low, high.
template <class G>
inline Transposed8 transposed8_of(const G& g) {
  const int32_t* const in_sizes = g.in_sizes;
  const int32_t* const out_sizes = g.out_sizes;
  const int32_t* const strides = g.strides;
  const int32_t* const pads = g.pads;
  const int32_t* const backs = g.backs;
  const Phases8 y = {in_sizes[0], out_sizes[0], strides[0], pads[0], backs[0], g.reach_y, g.count_y};
  const Phases8 x = {in_sizes[1], out_sizes[1], strides[1], pads[1], backs[1], g.reach_x, g.count_x};
  return {g.batch, g.inputs, g.outputs, g.input_zero, y, x, g.offsets, {g.zero_point, g.low, g.high}};
}

template <Scale8 kScale, class Tile, class G>
inline void quantized_transposed(const G& g, int8_t* out, const int8_t* in, const int8_t* packed,
                                 const int8_t* outside) {
  transposed8<kScale, Tile>(transposed8_of(g), out, in, packed, outside);
}

}  // namespace et
