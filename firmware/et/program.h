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

namespace program {

extern const char board[];  // name of the board file that the image was built for
extern const char name[];
extern const uint64_t hash;  // first 8 bytes (big-endian) of the SHA-256 of model.pte
extern const uint32_t input_count;
extern const TensorInfo inputs[];
extern const uint32_t output_count;
extern const TensorInfo outputs[];
extern const uint32_t step_count;
extern const uint16_t step_handles[];  // debug handle of each step, in order of execution

void init();  // gives state its initial content; called once, before the first run
void run();

}  // namespace program
}  // namespace et
