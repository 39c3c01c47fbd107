// Concatenation: each operand is copied to its place in the output.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// One operand's part of the geometry, in the form that move() takes.
template <int32_t kRank>
struct CatPart {
  int32_t sizes[kRank];
  int32_t out_strides[kRank];
  int32_t self_strides[kRank];
};

template <int32_t kRank, class G, class T>
inline __attribute__((always_inline)) void cat_part(const G& g, int32_t index, T* out, const T* self) {
  CatPart<kRank> part;
  for (int32_t dim = 0; dim < kRank; ++dim) {
    part.sizes[dim] = g.sizes[index * kRank + dim];
    part.out_strides[dim] = g.out_strides[index * kRank + dim];
    part.self_strides[dim] = g.self_strides[index * kRank + dim];
  }
  move(part, out + g.offsets[index], self);
}

// G: offsets (in out, one an operand); sizes, out_strides, self_strides: those of operand 0, then those of operand 1,
// ... An operand may lie in out, at its place there or behind it.
template <class G, class T, class... Parts>
void cat(const G& g, T* out, const Parts*... parts) {
  constexpr int32_t kRank = extent_of<decltype(G::sizes)> / static_cast<int32_t>(sizeof...(Parts));
  int32_t index = 0;
  (cat_part<kRank>(g, index++, out, static_cast<const T*>(parts)), ...);
}

}  // namespace et
