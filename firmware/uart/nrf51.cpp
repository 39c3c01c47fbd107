// UART of the nRF51 (reference manual 3.0, chapter 29), without EasyDMA; the nRF52840 still has it at the same address.
#include "uart/uart.h"

#ifndef ET_UART_BAUD
#define ET_UART_BAUD 0x01D7E000  // 115200 bits a second
#endif

namespace et {
namespace {

volatile uint32_t& reg(uint32_t offset) { return *reinterpret_cast<volatile uint32_t*>(ET_UART_ADDRESS + offset); }

// Tasks are started by writing 1; an event stays 1 until it is cleared.
constexpr uint32_t kStartReceive = 0x000;
constexpr uint32_t kStartTransmit = 0x008;
constexpr uint32_t kReceiveReady = 0x108;
constexpr uint32_t kTransmitReady = 0x11C;
constexpr uint32_t kEnable = 0x500;
constexpr uint32_t kReceived = 0x518;
constexpr uint32_t kTransmit = 0x51C;
constexpr uint32_t kBaud = 0x524;
constexpr uint32_t kEnabled = 4;

// QEMU looks whether the receiver is on when its main loop wakes. It looked before, and starting the receiver does not
// make it look again, so that the first bytes would wait for seconds; a timer that ends does. TIMER1 (chapter 19) runs
// once, for 50 microseconds, and stops.
void wake_qemu() {
  constexpr uint32_t kTimer1 = 0x40009000;
  constexpr uint32_t kStopAtCompare0 = 1U << 8;
  *reinterpret_cast<volatile uint32_t*>(kTimer1 + 0x200) = kStopAtCompare0;
  *reinterpret_cast<volatile uint32_t*>(kTimer1 + 0x540) = 50;
  *reinterpret_cast<volatile uint32_t*>(kTimer1) = 1;
}

}  // namespace

void uart_init() {
#if defined(ET_UART_TRANSMIT_PIN)
  reg(0x50C) = ET_UART_TRANSMIT_PIN;
  reg(0x514) = ET_UART_RECEIVE_PIN;
#endif
  reg(kBaud) = ET_UART_BAUD;
  reg(kEnable) = kEnabled;
  reg(kReceiveReady) = 0;
  reg(kTransmitReady) = 0;
  reg(kStartTransmit) = 1;
  reg(kStartReceive) = 1;
  wake_qemu();
}

void uart_put(uint8_t byte) {
  reg(kTransmit) = byte;
  while (reg(kTransmitReady) == 0) {
  }
  reg(kTransmitReady) = 0;
}

int32_t uart_get() {
  if (reg(kReceiveReady) == 0) {
    return -1;
  }
  reg(kReceiveReady) = 0;  // before the byte is taken: the next one may set it again at once
  return static_cast<int32_t>(reg(kReceived) & 0xFFU);
}

void uart_flush() {}

}  // namespace et
