// Arm CMSDK APB UART (DDI 0479, section 4.3): MPS2 and MPS3 boards.
#include "uart/uart.h"

#ifndef ET_UART_DIVIDER
#define ET_UART_DIVIDER 16  // the smallest that the UART takes; an emulated one does not care
#endif

namespace et {
namespace {

struct Registers {
  volatile uint32_t data;
  volatile uint32_t state;
  volatile uint32_t control;
  volatile uint32_t interrupt;
  volatile uint32_t divider;
};

constexpr uint32_t kTransmitFull = 1U << 0;
constexpr uint32_t kReceiveFull = 1U << 1;
constexpr uint32_t kEnableBoth = 3U;

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

}  // namespace

void uart_init() {
  uart().divider = ET_UART_DIVIDER;
  uart().control = kEnableBoth;
  // Empties the receive buffer. It also tells QEMU, which looked before the receiver was on, to look again; without it
  // the first bytes wait for whatever next wakes its main loop, for seconds.
  static_cast<void>(uart().data);
}

void uart_put(uint8_t byte) {
  while (uart().state & kTransmitFull) {
  }
  uart().data = byte;
}

int32_t uart_get() {
  if (!(uart().state & kReceiveFull)) {
    return -1;
  }
  return static_cast<int32_t>(uart().data & 0xFFU);
}

void uart_flush() {}

}  // namespace et
