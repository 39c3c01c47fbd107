// UART of SiFive's FE310 (manual 19.04, chapter 18).
#include "uart/uart.h"

#if defined(ET_UART_HZ)
#define ET_UART_DIVIDER (clock_is_set() ? divider(ET_UART_HZ) : divider(ET_UART_RESET_HZ))
#elif !defined(ET_UART_DIVIDER)
#define ET_UART_DIVIDER 138  // 115200 bits a second at 16 MHz
#endif

namespace et {
namespace {

struct Registers {
  volatile uint32_t transmit;
  volatile uint32_t receive;
  volatile uint32_t transmit_control;
  volatile uint32_t receive_control;
  volatile uint32_t interrupt_enable;
  volatile uint32_t interrupt_pending;
  volatile uint32_t divider;
};

#if defined(ET_UART_HZ)
constexpr uint32_t divider(uint32_t hz) { return (hz + ET_BAUD / 2) / ET_BAUD - 1; }
#endif

constexpr uint32_t kFull = 1U << 31;
constexpr uint32_t kEmpty = 1U << 31;
constexpr uint32_t kEnable = 1U;

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

}  // namespace

void uart_init() {
  uart().divider = ET_UART_DIVIDER;
  uart().transmit_control = kEnable;
  uart().receive_control = kEnable;
  // Makes QEMU, which looked before the receiver was on, look again.
  static_cast<void>(uart().receive);
}

void uart_put(uint8_t byte) {
  while (uart().transmit & kFull) {
  }
  uart().transmit = byte;
}

int32_t uart_get() {
  const uint32_t word = uart().receive;  // reading takes the byte
  return word & kEmpty ? -1 : static_cast<int32_t>(word & 0xFFU);
}

void uart_flush() {}

}  // namespace et
