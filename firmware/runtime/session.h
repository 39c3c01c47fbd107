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
// Ticks before each step and after the last, and last of all what a mark itself costs.
constexpr uint32_t kProbeWords = ET_PROBE_COUNT + 1;
extern uint32_t probe_ticks[kProbeWords];
void probes_begin(uint64_t start);
void probes_calibrate(uint64_t start);
#endif

#if defined(ET_TRACE)
void trace_begin(uint32_t run);
#endif

}  // namespace et
