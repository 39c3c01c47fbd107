// In place of runtime/main.cpp: the board answers MLPerf Tiny's runner instead of etexport's host.
#include "et/program.h"
#include "mlperf/protocol.h"
#include "runtime/core.h"
#include "runtime/setup.h"
#include "uart/uart.h"

namespace et {

void serve() {
  set_up_chip();
  uart_init();
  program::init();
  mlperf::greet();
  for (;;) {
    const int32_t byte = uart_get();
    if (byte >= 0) {
      mlperf::take(static_cast<uint8_t>(byte));
    }
  }
}

}  // namespace et
