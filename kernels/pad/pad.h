// Pads with a constant, or crops, on every side of every dimension.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: count (elements of out), padded (anything is), out_offset and self_offset of the first element that is copied, and
// the nest.
template <class G, class T>
void pad(const G& g, T* out, const T* self, const T* value) {
  if (g.padded) {
    const T v = *value;
    if constexpr (sizeof(T) == 1) {
      fill_bytes(reinterpret_cast<uint8_t*>(out), static_cast<uint8_t>(v), g.count);
    } else {
      unrolled(g.count, [&](int32_t i) { out[i] = v; });
    }
  }
  move(g, out + g.out_offset, self + g.self_offset);
}

}  // namespace et
