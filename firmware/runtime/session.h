// What the parts of the runtime know of each other.
#pragma once

#include <stdint.h>

namespace et {

constexpr uint32_t kNoRun = 0xFFFFFFFF;
constexpr uint32_t kNoStep = 0xFFFFFFFF;

extern volatile uint32_t current_run;   // kNoRun when the program is not running
extern volatile uint32_t current_step;  // maintained with ET_PROBES only

void answer_identify(uint16_t sequence);
uint32_t boot_number();

#if defined(ET_PROBES)
// For each step the ticks of all its executions and how many these were, and what a mark itself costs. Behind the last
// step stands what is before the first.
struct Counted {
  uint32_t ticks, executions;
};
struct Probes {
  Counted steps[ET_PROBE_COUNT];
  uint32_t mark;
};
extern Probes probes;
void probes_begin(uint64_t start);
void probes_calibrate(uint64_t start);
#endif

#if defined(ET_TRACE)
void trace_begin(uint32_t run);
#endif

}  // namespace et
