// Running sums and products. out may be the memory of self where both have one type.
#pragma once

#include <stdint.h>

#include "et/strided.h"

namespace et {

// Each result is the one before it and the next element, joined. G: sizes, out_strides, self_strides of the dimensions
// that stay; out_step, self_step, length of the one that is walked along.
template <class G, class Out, class In, class F>
inline __attribute__((always_inline)) void scan(const G& g, Out* out, const In* self, Out start, const F& join) {
  const auto line = [&](int32_t to, int32_t from) {
    Out total = start;
    for (int32_t i = 0; i < g.length; ++i) {
      total = join(total, static_cast<Out>(self[from + i * g.self_step]));
      out[to + i * g.out_step] = total;
    }
  };
  each<extent_of<decltype(G::sizes)>>(g.sizes, line, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

template <class G>
void running_sum(const G& g, float* out, const float* self) {
  scan(g, out, self, 0.0f, [](float a, float b) { return a + b; });
}

template <class G>
void running_product(const G& g, float* out, const float* self) {
  scan(g, out, self, 1.0f, [](float a, float b) { return a * b; });
}

// Of whole numbers in 64 bits, which wrap round.
template <class G, class T>
void running_sum(const G& g, int64_t* out, const T* self) {
  scan(g, out, self, INT64_C(0),
       [](int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); });
}

template <class G, class T>
void running_product(const G& g, int64_t* out, const T* self) {
  scan(g, out, self, INT64_C(1),
       [](int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); });
}

}  // namespace et
