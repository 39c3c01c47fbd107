// What the bundled runtime sees of a program. The generated binding.cpp defines it over the model's own header,
// program.h.
#pragma once

#include <stdint.h>

namespace et {

// `sizes` are logical (as in the script), `dim_order` lists dimensions from outermost to innermost in memory; both have
// `rank` entries. `dtype` is ExecuTorch's ScalarType code.
struct TensorInfo {
  const char* name;
  const void* data;  // of an input: in memory that is written to before each run
  uint32_t bytes;
  uint8_t dtype;
  uint8_t rank;
  const int32_t* sizes;
  const uint8_t* dim_order;
};

// A method of the program: how many inputs and outputs it has is in `tensor_counts`.
struct MethodInfo {
  const char* name;
  const TensorInfo* inputs;
  const TensorInfo* outputs;
};

namespace program {

extern const char board[];  // name of the board file that the image was built for
extern const char name[];
extern const uint64_t hash;  // first 8 bytes (big-endian) of the SHA-256 of model.pte
extern const uint32_t method_count;
extern const MethodInfo methods[];
extern const uint16_t tensor_counts[];  // for each method the number of its inputs, and of its outputs
extern const uint32_t step_count;       // of all methods
extern const uint16_t step_handles[];   // debug handle of each step, method by method in order of execution

void init();  // gives state its initial content; called before the first run, and where it is to begin anew

// `run` calls the method of this number, by name so that the bound of the stack can follow it. It is selected before,
// for a run is counted.
void select(uint32_t method);
void run();

}  // namespace program
}  // namespace et
