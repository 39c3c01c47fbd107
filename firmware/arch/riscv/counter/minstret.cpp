// Instructions retired (RISC-V privileged specification, section 3.1.11): 64 bits, read in halves.
#include "runtime/core.h"

namespace et {
namespace {

uint64_t now() {
  uint32_t high;
  uint32_t low;
  uint32_t again;
  do {
    __asm volatile("csrr %0, minstreth\n csrr %1, minstret\n csrr %2, minstreth" : "=r"(high), "=r"(low), "=r"(again));
  } while (high != again);
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace

void counter_init() { __asm volatile("csrw minstret, zero\n csrw minstreth, zero"); }

uint64_t counter_start() { return now(); }
uint64_t counter_since(uint64_t start) { return now() - start; }

}  // namespace et
