// What the protocol of MLPerf Tiny asks of a program. The generated mlperf.cpp defines it for one model.
#pragma once

#include <stdint.h>

namespace et {
namespace mlperf {

extern const char model[];  // the benchmark's word for it, as "kws01"
extern uint8_t input[];     // one input, as the benchmark sends it
extern const uint32_t input_bytes;
extern const uint32_t result_count;

void infer();                           // once: the input to where the program wants it, then the program
float result(uint32_t index);           // of the last one
uint64_t microseconds(uint64_t ticks);  // of the board's counter

}  // namespace mlperf
}  // namespace et
