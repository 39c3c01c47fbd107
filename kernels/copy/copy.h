// Copies a view of a tensor, from any dim order and element type to any other.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides, offset (of the view's first element in self).
template <class G, class Out, class In>
void copy(const G& g, Out* out, const In* self) {
  constexpr int32_t kOuter = rank_of<G> - 1;
  const int32_t n = g.sizes[kOuter];
  const int32_t out_stride = g.out_strides[kOuter];
  const int32_t self_stride = g.self_strides[kOuter];
  const In* from = self + g.offset;
  const auto row = [&](int32_t to, int32_t at) {
    map_row(n, out + to, out_stride, from + at, self_stride, [](In v) { return static_cast<Out>(v); });
  };
  each<kOuter>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
