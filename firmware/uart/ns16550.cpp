// NS16550A UART with byte registers, as the RISC-V virt machine has it.
#include "uart/uart.h"

namespace et {
namespace {

struct Registers {
  volatile uint8_t data;
  volatile uint8_t interrupt;
  volatile uint8_t fifo;
  volatile uint8_t line;
  volatile uint8_t modem;
  volatile uint8_t line_status;
};

constexpr uint8_t kEightBits = 3U;
constexpr uint8_t kFifoEnableAndClear = 0xC7U;  // and 14 bytes at once: QEMU hands over no more than the trigger level
constexpr uint8_t kReceiveReady = 1U << 0;
constexpr uint8_t kTransmitEmpty = 1U << 5;

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

}  // namespace

void uart_init() {
  uart().interrupt = 0;
  uart().line = kEightBits;
  uart().fifo = kFifoEnableAndClear;
  // QEMU stops listening while a byte waits, and clearing it does not make it listen again; reading does.
  static_cast<void>(uart().data);
}

void uart_put(uint8_t byte) {
  while (!(uart().line_status & kTransmitEmpty)) {
  }
  uart().data = byte;
}

int32_t uart_get() {
  if (!(uart().line_status & kReceiveReady)) {
    return -1;
  }
  return uart().data;
}

void uart_flush() {}

}  // namespace et
