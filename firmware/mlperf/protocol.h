// The serial protocol of MLPerf Tiny: commands of words that end with %, answered by lines, with m-ready behind each.
#pragma once

#include <stdint.h>

namespace et {
namespace mlperf {

void greet();             // what is said after the start
void take(uint8_t byte);  // one byte of the stream; the one that ends a command answers it
void say(const char* text);

}  // namespace mlperf
}  // namespace et
