// Arm PL011 UART (DDI 0183, chapter 3): Stellaris, Tiva C, RP2040.
#include "uart/uart.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t data;
  volatile uint32_t unused[5];
  volatile uint32_t flags;
  volatile uint32_t unused_too[2];
  volatile uint32_t whole_divider;
  volatile uint32_t divider_of_64;
  volatile uint32_t line_control;
  volatile uint32_t control;
};

constexpr uint32_t kBusy = 1U << 3;
constexpr uint32_t kReceiveEmpty = 1U << 4;
constexpr uint32_t kTransmitFull = 1U << 5;
constexpr uint32_t kEightBitsAndFifos = 0x70;
constexpr uint32_t kEnableBoth = 0x301;

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

#if defined(ET_UART_HZ)
// In sixty-fourths of 16 clocks, that is in quarters of a clock; to the nearest.
constexpr uint32_t divider(uint64_t hz) { return static_cast<uint32_t>((hz * 4 + ET_BAUD / 2) / ET_BAUD); }
#endif

}  // namespace

void uart_init() {
#if defined(ET_UART_HZ)
  constexpr uint32_t kSet = divider(ET_UART_HZ);
  constexpr uint32_t kReset = divider(ET_UART_RESET_HZ);
  const uint32_t parts = clock_is_set() ? kSet : kReset;
  uart().whole_divider = parts / 64;
  uart().divider_of_64 = parts % 64;
#endif
  uart().line_control = kEightBitsAndFifos;  // after the dividers: writing it makes them count
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
