// Loop nests over tensors whose elements lie in any order. The host (etexport/strided.py) has merged and ordered the dimensions:
// the last is the innermost of the output, and a tensor in one piece has a single dimension larger than 1.
#pragma once

#include <stdint.h>

namespace et {

// Offset in elements of one operand, and its strides for the dimensions that are still to come.
struct Cursor {
  int32_t at;
  const int32_t* strides;
};

// Calls body(offset, ...) with the offset of each operand, for every index of the first kDims dimensions of `sizes`.
template <int32_t kDims, class Body, class... Cursors>
inline __attribute__((always_inline)) void each(const int32_t* sizes, const Body& body, Cursors... cursors) {
  if constexpr (kDims == 0) {
    body(cursors.at...);
  } else {
    for (int32_t i = 0; i < sizes[0]; ++i) {
      each<kDims - 1>(sizes + 1, body, Cursor{cursors.at + i * cursors.strides[0], cursors.strides + 1}...);
    }
  }
}

// Number of dimensions of the nest in a geometry.
template <class G>
constexpr int32_t rank_of = static_cast<int32_t>(sizeof(G::sizes) / sizeof(int32_t));

// body(i) for 0 <= i < n, four to a round: a float loop of load, add, store spends more on counting than on adding.
template <class Body>
inline __attribute__((always_inline)) void unrolled(int32_t n, const Body& body) {
#pragma GCC unroll 4
  for (int32_t i = 0; i < n; ++i) {
    body(i);
  }
}

// out[i] = f(in[i]) along the innermost dimension.
template <class Out, class In, class F>
inline __attribute__((always_inline)) void map_row(int32_t n, Out* out, int32_t out_stride, const In* in, int32_t in_stride,
                                                   const F& f) {
  if (out_stride == 1 && in_stride == 1) {
    unrolled(n, [&](int32_t i) { out[i] = f(in[i]); });
  } else {
    for (int32_t i = 0; i < n; ++i) {
      out[i * out_stride] = f(in[i * in_stride]);
    }
  }
}

}  // namespace et
