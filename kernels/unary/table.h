// Any function of one int8 value, as a table of its 256 results.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// G: sizes, out_strides, self_strides. table[v + 128] is the result for v. out may be the memory of self.
template <class G>
void table(const G& g, int8_t* out, const int8_t* self, const int8_t* table) {
  const int8_t* const centre = table + 128;
  map(g, out, self, [&](int8_t v) { return centre[v]; });
}

}  // namespace et
