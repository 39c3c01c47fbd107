// What a core gives the runtime: firmware/arch/<arch>/ defines all of it, and calls serve() once memory is ready.
#pragma once

#include <stdint.h>

namespace et {

// The counter of arch/<arch>/counter/. It runs from the first instructions after reset.
uint64_t counter_start();                // where a measurement starts
uint64_t counter_since(uint64_t start);  // ticks since then; since 0: since reset
void counter_init();                     // called first of all, before memory is set up

// The parts of the image that do not change while it runs, for the CRC; false beyond the last.
bool image_part(uint32_t index, const uint8_t** start, uint32_t* bytes);

uint32_t stack_bytes();  // 0 where the stack is not ours
uint32_t stack_used();   // the deepest it has been

[[noreturn]] void core_exit(uint32_t code);  // ends a simulator with this exit status

[[noreturn]] void serve();

}  // namespace et
