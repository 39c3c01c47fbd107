// UART with EasyDMA of the nRF52 (nRF52840 product specification, section 6.34). It reads and writes RAM only, a byte
// at a time here: what is sent may lie in flash, and a byte that has come must not wait for others.
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
         : baud == 115200  ? 0x01D60000
         : baud == 230400  ? 0x03B00000
         : baud == 250000  ? 0x04000000
         : baud == 1000000 ? 0x10000000
                           : 0;
}
static_assert(rate(ET_BAUD) != 0, "the UART of the nRF52 has no such speed");

volatile uint32_t& reg(uint32_t offset) { return *reinterpret_cast<volatile uint32_t*>(ET_UART_ADDRESS + offset); }

// Tasks are started by writing 1; an event stays 1 until it is cleared.
constexpr uint32_t kStartReceive = 0x000;
constexpr uint32_t kStartTransmit = 0x008;
constexpr uint32_t kEndReceive = 0x110;
constexpr uint32_t kEndTransmit = 0x120;
constexpr uint32_t kEnable = 0x500;
constexpr uint32_t kEnabled = 8;
constexpr uint32_t kRequestToSend = 0x508;
constexpr uint32_t kTransmitPin = 0x50C;
constexpr uint32_t kClearToSend = 0x510;
constexpr uint32_t kReceivePin = 0x514;
constexpr uint32_t kNoPin = 0xFFFFFFFF;
constexpr uint32_t kBaud = 0x524;
constexpr uint32_t kReceiveAddress = 0x534;
constexpr uint32_t kReceiveCount = 0x538;
constexpr uint32_t kTransmitAddress = 0x544;
constexpr uint32_t kTransmitCount = 0x548;

volatile uint8_t received;
volatile uint8_t sent;

}  // namespace

void uart_init() {
  reg(kRequestToSend) = kNoPin;
  reg(kTransmitPin) = ET_UART_TRANSMIT_PIN;
  reg(kClearToSend) = kNoPin;
  reg(kReceivePin) = ET_UART_RECEIVE_PIN;
  reg(kBaud) = rate(ET_BAUD);
  reg(kEnable) = kEnabled;
  reg(kReceiveAddress) = reinterpret_cast<uint32_t>(&received);
  reg(kReceiveCount) = 1;
  reg(kTransmitAddress) = reinterpret_cast<uint32_t>(&sent);
  reg(kTransmitCount) = 1;
  reg(kEndReceive) = 0;
  reg(kStartReceive) = 1;
}

void uart_put(uint8_t byte) {
  sent = byte;
  reg(kEndTransmit) = 0;
  reg(kStartTransmit) = 1;
  while (reg(kEndTransmit) == 0) {
  }
}

// Between the end of one byte and the next start the receiver keeps what comes, up to four bytes.
int32_t uart_get() {
  if (reg(kEndReceive) == 0) {
    return -1;
  }
  const int32_t byte = received;
  reg(kEndReceive) = 0;
  reg(kStartReceive) = 1;
  return byte;
}

void uart_flush() {}

}  // namespace et
