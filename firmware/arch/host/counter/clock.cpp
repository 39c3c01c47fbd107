// The operating system's monotonic clock, in nanoseconds: not instructions, and not the same twice.
#include <time.h>

#include "runtime/core.h"

namespace et {
namespace {

uint64_t started;

uint64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

void counter_init() { started = now(); }

uint64_t counter_start() { return now() - started; }
uint64_t counter_since(uint64_t start) { return now() - started - start; }

}  // namespace et
