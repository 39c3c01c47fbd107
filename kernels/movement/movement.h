// Elements moved to other places: read along strides that may be negative or 0, or written over a part of a tensor.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides, offset of the first element in self.
template <class G, class T>
void rearrange(const G& g, T* out, const T* self) {
  move(g, out, self + g.offset);
}

// out = self, and then src over a part of it. G: sizes, out_strides, self_strides of the whole; part_sizes,
// part_strides, src_strides and offset of the part. out may be the memory of self.
template <class G, class T, class Source>
void overwrite(const G& g, T* out, const T* self, const Source* src) {
  if (out != self) {
    move(g, out, self);
  }
  T* const part = out + g.offset;
  each<extent_of<decltype(G::part_sizes)>>(
      g.part_sizes, [&](int32_t to, int32_t from) { part[to] = static_cast<T>(src[from]); }, Cursor{0, g.part_strides},
      Cursor{0, g.src_strides});
}

// Every element of out is written from src. G: sizes, out_strides, self_strides (of src).
template <class G, class T, class Source>
void fill_from(const G& g, T* out, const Source* src) {
  move(g, out, src);
}

}  // namespace et
