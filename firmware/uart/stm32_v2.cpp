// USART of STM32F0, F3, F7, G, H, L4, L5, U5 and WB (RM0433, chapter 48; RM0456, chapter 66): other registers than that
// of F1 to F4. ET_UART_FIFO, on chips that have one, keeps what comes while the core is elsewhere.
#include "uart/uart.h"

namespace et {
namespace {

struct Registers {
  volatile uint32_t control;
  volatile uint32_t control2;
  volatile uint32_t control3;
  volatile uint32_t baud;
  volatile uint32_t guard;
  volatile uint32_t timeout;
  volatile uint32_t request;
  volatile uint32_t status;
  volatile uint32_t clear;
  volatile uint32_t received;
  volatile uint32_t transmit;
};

constexpr uint32_t kEnable = 1U << 0;
constexpr uint32_t kReceiver = 1U << 2;
constexpr uint32_t kTransmitter = 1U << 3;
constexpr uint32_t kFifo = 1U << 29;
constexpr uint32_t kOverrun = 1U << 3;  // in status and clear
constexpr uint32_t kReceived = 1U << 5;
constexpr uint32_t kTransmitComplete = 1U << 6;
constexpr uint32_t kTransmitRoom = 1U << 7;

#if defined(ET_UART_FIFO)
constexpr uint32_t kControl = kFifo | kTransmitter | kReceiver;
#else
constexpr uint32_t kControl = kTransmitter | kReceiver;
#endif

Registers& uart() { return *reinterpret_cast<Registers*>(ET_UART_ADDRESS); }

constexpr uint32_t divider(uint32_t hz) { return (hz + ET_BAUD / 2) / ET_BAUD; }  // 16 samples a bit
static_assert(divider(ET_UART_HZ) >= 16, "the UART's clock is too slow for this speed");

}  // namespace

void uart_init() {
  // Speed and FIFO can only be set while it is off, which it is not where a loader talked before.
  uart().control = 0;
  uart().baud = clock_is_set() ? divider(ET_UART_HZ) : divider(ET_UART_RESET_HZ);
  uart().control = kControl;
  uart().control = kControl | kEnable;
}

void uart_put(uint8_t byte) {
  while (!(uart().status & kTransmitRoom)) {
  }
  uart().transmit = byte;
}

int32_t uart_get() {
  const uint32_t status = uart().status;
  if (status & kOverrun) {
    uart().clear = kOverrun;  // until then nothing more comes; the link notices what was lost
  }
  if (!(status & kReceived)) {
    return -1;
  }
  return static_cast<int32_t>(uart().received & 0xFFU);
}

void uart_flush() {
  while (!(uart().status & kTransmitComplete)) {
  }
}

}  // namespace et
