// The RP2040 needs nothing beyond its clocks and pins; boot2.cpp is what its ROM wants.
#include "runtime/setup.h"

namespace et {

void chip_init() {}

}  // namespace et
