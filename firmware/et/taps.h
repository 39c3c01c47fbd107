// Which taps of a window lie inside a row.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"

namespace et {

// Taps [first, last) of a window; empty where first == last.
struct Taps {
  int32_t first, last;
};

// The window begins at `left` (negative in the padding) and has `kernel` taps `dilation` apart; the row has `size`
// positions.
inline Taps taps_inside(int32_t left, int32_t size, int32_t kernel, int32_t dilation) {
  const int32_t first = smaller((larger(-left, 0) + dilation - 1) / dilation, kernel);
  const int32_t last = smaller((larger(size - left, 0) + dilation - 1) / dilation, kernel);
  return {first, larger(first, last)};
}

}  // namespace et
