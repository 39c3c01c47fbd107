// USART of STM32F1, F2, F4 and L1 (RM0090, chapter 30). An emulated one needs no divider, no clock and no pins.
#include "uart/uart.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t status;
  volatile uint32_t data;
  volatile uint32_t baud;
  volatile uint32_t control;
};

constexpr uint32_t kReceived = 1U << 5;
constexpr uint32_t kTransmitComplete = 1U << 6;
constexpr uint32_t kTransmitEmpty = 1U << 7;
constexpr uint32_t kEnableBoth = 1U << 13 | 1U << 3 | 1U << 2;

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

#if defined(ET_UART_HZ)
constexpr uint32_t divider(uint32_t hz) { return (hz + ET_BAUD / 2) / ET_BAUD; }  // 16 samples a bit
static_assert(divider(ET_UART_HZ) >= 16, "the UART's clock is too slow for this speed");
#endif

}  // namespace

void uart_init() {
#if defined(ET_UART_HZ)
  uart().baud = clock_is_set() ? divider(ET_UART_HZ) : divider(ET_UART_RESET_HZ);
#elif defined(ET_UART_DIVIDER)
  uart().baud = ET_UART_DIVIDER;
#endif
  uart().control = kEnableBoth;
  // Empties the receiver, and makes QEMU, which looked before it was on, look again.
  static_cast<void>(uart().data);
}

void uart_put(uint8_t byte) {
  while (!(uart().status & kTransmitEmpty)) {
  }
  uart().data = byte;
}

int32_t uart_get() {
  if (!(uart().status & kReceived)) {
    return -1;
  }
  return static_cast<int32_t>(uart().data & 0xFFU);
}

void uart_flush() {
  while (!(uart().status & kTransmitComplete)) {
  }
}

}  // namespace et
