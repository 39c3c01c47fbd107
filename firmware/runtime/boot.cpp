// How often the board has started since power came on: the count lies in memory that a reset does not touch.
#include "runtime/session.h"

namespace et {
namespace {

constexpr uint32_t kMark = 0xE7B00700;  // memory that was never written is not likely to hold it

__attribute__((section(".noinit"))) uint32_t mark;
__attribute__((section(".noinit"))) uint32_t count;

}  // namespace

uint32_t boot_number() {
  count = mark == kMark ? count + 1 : 1;
  mark = kMark;
  return count;
}

}  // namespace et
