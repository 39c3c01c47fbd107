// Tells the host what happened, for ever.
#pragma once

#include <stdint.h>

#include "runtime/link.h"

namespace et {

constexpr uint32_t kFaultStackBytes = 512;  // of the stack that go with a fault, at most

// `registers` in the order of schema/link.md. `stack` is what lies above the stack pointer: return addresses are in it.
[[noreturn]] void report_fault(Core core, const uint32_t* registers, uint8_t count, const void* stack, uint32_t bytes);

}  // namespace et
