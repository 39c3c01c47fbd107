// For programs with sizes that are known at run time. `sizes` of their tensors has four parts: the sizes in use, the
// least and the largest ones, and the bytes of an element.
#pragma once

#include "et/program.h"

namespace et {

namespace program {

// Learns the sizes that run() will be given from those of the inputs, and sets those of the outputs. False where the
// inputs do not agree: `differs` has the dimension, the size that it must have, and the one that it has. Weak, for an
// image that nothing is discarded of has the loop below without a program for it.
__attribute__((weak)) bool settle(uint32_t method, int32_t* differs);

}  // namespace program

namespace sized {

[[noreturn]] void serve();  // the main loop for these programs, which `binding.cpp` puts in place of the other one

}  // namespace sized

// The bytes of a tensor that has these sizes.
inline uint32_t bytes_of(const TensorInfo& info, const int32_t* sizes) {
  uint32_t bytes = static_cast<uint32_t>(info.sizes[3 * info.rank]);
  for (uint32_t i = 0; i < info.rank; ++i) {
    bytes *= static_cast<uint32_t>(sizes[i]);
  }
  return bytes;
}

inline void measure(TensorInfo* info) { info->bytes = bytes_of(*info, info->sizes); }

inline bool same_sizes(int32_t rank, const int32_t* wanted, const int32_t* given, int32_t* differs) {
  for (int32_t i = 0; i < rank; ++i) {
    if (wanted[i] != given[i]) {
      differs[0] = i;
      differs[1] = wanted[i];
      differs[2] = given[i];
      return false;
    }
  }
  return true;
}

}  // namespace et
