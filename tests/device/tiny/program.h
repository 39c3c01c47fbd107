// A program small enough to be written by hand, with what a link has to carry: two inputs of different types and
// layouts, an output of several chunks, state, and ways to go wrong that an input value chooses.
#pragma once

#include <stdint.h>

namespace tiny {

struct Arena {
  float x[6];          // (2, 3)
  int8_t image[48];    // (1, 3, 4, 4), channels last
  float sum[2];        // (2)
  int32_t table[600];  // (600)
  uint32_t runs;       // state
};
extern Arena arena;

void init();
void run();

}  // namespace tiny
