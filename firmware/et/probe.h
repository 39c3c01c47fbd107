// Marks between the steps of a program that was generated with them (marked.cpp), for builds that ask for counts
// (ET_PROBES) or values (ET_TRACE). Counts leave out what it takes to stream values.
#pragma once

#include <stdint.h>

namespace et {

#if defined(ET_PROBES)
void probe(uint32_t step);  // called before each step, as often as it runs, and with step_count after the last
#else
inline void probe(uint32_t) {}
#endif

#if defined(ET_TRACE)
struct Result {
  uint32_t step, output, bytes;
  const void* data;  // nullptr ends a list
};

// Streams a step's result to the host while the program runs, or those that a list has of the step.
void trace(uint32_t step, uint32_t output, const void* data, uint32_t bytes);
void trace(uint32_t step, const Result* results);
#else
inline void trace(uint32_t, uint32_t, const void*, uint32_t) {}
#endif

}  // namespace et
