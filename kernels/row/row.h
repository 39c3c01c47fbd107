// One row of a tensor in logical order, at a place that a loop counts.
#pragma once

#include <stdint.h>
#include <string.h>

namespace et {

// G: rows, elements (of a row).
template <class G, class T>
void row(const G& g, T* out, const T* self, const int32_t* count) {
  const uint32_t bytes = static_cast<uint32_t>(g.elements) * sizeof(T);
  if (static_cast<uint32_t>(*count) < static_cast<uint32_t>(g.rows)) {
    memcpy(out, self + *count * g.elements, bytes);
  } else {
    memset(out, 0, bytes);
  }
}

// The same G.
template <class G, class T>
void set_row(const G& g, T* out, const T* src, const int32_t* count) {
  if (static_cast<uint32_t>(*count) < static_cast<uint32_t>(g.rows)) {
    memcpy(out + *count * g.elements, src, static_cast<uint32_t>(g.elements) * sizeof(T));
  }
}

}  // namespace et
