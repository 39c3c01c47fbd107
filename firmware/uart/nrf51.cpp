// UART of the nRF51 (reference manual 3.0, chapter 29), without EasyDMA. The nRF52840 still has it at the same address;
// Renode's has only the one with EasyDMA (nrf_uarte.cpp).
#include "uart/uart.h"

#ifndef ET_BAUD
#define ET_BAUD 115200
#endif

namespace et {
namespace {

// Of its own clock of 16 MHz, whatever the core's: the values of the register's table, 0 for a speed that it lacks.
constexpr uint32_t rate(uint32_t baud) {
  return baud == 9600      ? 0x00275000
         : baud == 57600   ? 0x00EBF000
         : baud == 115200  ? 0x01D7E000
         : baud == 230400  ? 0x03AFB000
         : baud == 250000  ? 0x04000000
         : baud == 1000000 ? 0x10000000
                           : 0;
}
static_assert(rate(ET_BAUD) != 0, "the UART of the nRF51 has no such speed");

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
  reg(kBaud) = rate(ET_BAUD);
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
