// In place of runtime/fault.cpp: a fault is an error of the protocol, with the registers as the core has them.
#include "runtime/fault.h"

#include "mlperf/protocol.h"
#include "uart/uart.h"

namespace et {

void report_fault(Core, const uint32_t* registers, uint8_t count, const void*, uint32_t) {
  mlperf::say("\r\ne-[Fault:");
  for (uint8_t i = 0; i < count; ++i) {
    mlperf::say(" ");
    for (int32_t shift = 28; shift >= 0; shift -= 4) {
      uart_put(static_cast<uint8_t>("0123456789abcdef"[registers[i] >> shift & 15]));
    }
  }
  mlperf::say("]\r\n");
  uart_flush();
  for (;;) {
  }
}

}  // namespace et
