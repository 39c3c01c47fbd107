// UART of OpenTitan (its register page of `uart`, 2022). QEMU sends what is written a little later and loses it at its
// end: uart_flush() waits until the sender is idle.
#include "uart/uart.h"

namespace et {
namespace {

volatile uint32_t& reg(uint32_t offset) { return *reinterpret_cast<volatile uint32_t*>(ET_UART_ADDRESS + offset); }

constexpr uint32_t kControl = 0x10;
constexpr uint32_t kStatus = 0x14;
constexpr uint32_t kReceived = 0x18;
constexpr uint32_t kTransmit = 0x1C;
constexpr uint32_t kEnableBoth = 3;
constexpr uint32_t kTransmitFull = 1U << 0;
constexpr uint32_t kTransmitEmpty = 1U << 2;
constexpr uint32_t kTransmitIdle = 1U << 3;
constexpr uint32_t kReceiveEmpty = 1U << 5;

#if defined(ET_UART_HZ)
// A fraction of the clock in 2^20 parts, of which 16 make a bit.
constexpr uint32_t rate(uint64_t hz) { return static_cast<uint32_t>(((uint64_t{ET_BAUD} << 20) + hz / 2) / hz); }
static_assert(rate(ET_UART_HZ) <= 0xFFFF, "the UART's clock is too slow for this speed");
#endif

}  // namespace

void uart_init() {
#if defined(ET_UART_HZ)
  constexpr uint32_t kSet = rate(ET_UART_HZ);
  constexpr uint32_t kReset = rate(ET_UART_RESET_HZ);
  const uint32_t parts = clock_is_set() ? kSet : kReset;
#else
  constexpr uint32_t parts = 0x7FFF;  // an emulated one does not care
#endif
  reg(kControl) = parts << 16 | kEnableBoth;
  // QEMU looked whether the receiver is on before it was, and looks again when its main loop wakes: for this byte,
  // which it sends later. On the line it is the end of a frame of which nothing came.
  reg(kTransmit) = 0;
}

void uart_put(uint8_t byte) {
  while (reg(kStatus) & kTransmitFull) {
  }
  reg(kTransmit) = byte;
}

int32_t uart_get() {
  if (reg(kStatus) & kReceiveEmpty) {
    return -1;
  }
  return static_cast<int32_t>(reg(kReceived) & 0xFFU);
}

void uart_flush() {
  constexpr uint32_t kSent = kTransmitEmpty | kTransmitIdle;
  while ((reg(kStatus) & kSent) != kSent) {
  }
}

}  // namespace et
