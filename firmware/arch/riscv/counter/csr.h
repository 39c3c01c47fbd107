// A counter in a pair of CSRs (RISC-V privileged specification, section 3.1.11): 64 bits, read in halves. The source
// that includes this names the pair in ET_COUNTER_CSR.
#pragma once

#include "runtime/core.h"

namespace et {
namespace {

uint64_t now() {
  uint32_t high;
  uint32_t low;
  uint32_t again;
  do {
    __asm volatile("csrr %0, " ET_COUNTER_CSR "h\n csrr %1, " ET_COUNTER_CSR "\n csrr %2, " ET_COUNTER_CSR "h"
                   : "=r"(high), "=r"(low), "=r"(again));
  } while (high != again);
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace

void counter_init() { __asm volatile("csrw " ET_COUNTER_CSR ", zero\n csrw " ET_COUNTER_CSR "h, zero"); }

uint64_t counter_start() { return now(); }
uint64_t counter_since(uint64_t start) { return now() - start; }

}  // namespace et
