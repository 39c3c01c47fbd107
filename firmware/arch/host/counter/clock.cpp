// The operating system's monotonic clock, in nanoseconds: not instructions, and not the same twice.
// unit: nanoseconds (host clock)
#include <time.h>

#include "runtime/core.h"

namespace et {
namespace {

uint64_t started;
uint64_t quickest = ~uint64_t{0};  // that two readings came one after the other
constexpr uint32_t kTries = 1000;

uint64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000 + static_cast<uint64_t>(time.tv_nsec);
}

// Reads until two readings are as near to each other as they get: then code and data are in the caches, and no other
// process came between. Without that, counting nothing might take longer than a small program.
uint64_t settled() {
  uint64_t before = now();
  for (uint32_t i = 0; i < kTries; ++i) {
    const uint64_t after = now();
    const uint64_t apart = after - before;
    before = after;
    if (apart < quickest) {
      quickest = apart;
    } else if (apart <= quickest + quickest / 4) {
      break;
    }
  }
  return before;
}

}  // namespace

void counter_init() {
  started = now();
  settled();
}

uint64_t counter_start() { return settled() - started; }
uint64_t counter_since(uint64_t start) { return now() - started - start; }

}  // namespace et
