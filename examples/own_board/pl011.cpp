// Arm PL011 UART (DDI 0183, chapter 3): Stellaris, Tiva C, RP2040.
#include "uart/uart.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t data;
  volatile uint32_t unused[5];
  volatile uint32_t flags;
  volatile uint32_t unused_too[4];
  volatile uint32_t line_control;
  volatile uint32_t control;
};

constexpr uint32_t kBusy = 1U << 3;
constexpr uint32_t kReceiveEmpty = 1U << 4;
constexpr uint32_t kTransmitFull = 1U << 5;
constexpr uint32_t kEightBitsAndFifos = 0x70;
constexpr uint32_t kEnableBoth = 0x301;

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

}  // namespace

void uart_init() {
  uart().line_control = kEightBitsAndFifos;
  uart().control = kEnableBoth;
  static_cast<void>(uart().data);  // makes QEMU, which looked before the receiver was on, look again
}

void uart_put(uint8_t byte) {
  while (uart().flags & kTransmitFull) {
  }
  uart().data = byte;
}

int32_t uart_get() {
  if (uart().flags & kReceiveEmpty) {
    return -1;
  }
  return static_cast<int32_t>(uart().data & 0xFFU);
}

void uart_flush() {
  while (uart().flags & kBusy) {
  }
}

}  // namespace et
