// Copies a view of a tensor, from any dim order and element type to any other.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides, offset (of the view's first element in self).
template <class G, class Out, class In>
void copy(const G& g, Out* out, const In* self) {
  move(g, out, self + g.offset);
}

}  // namespace et
