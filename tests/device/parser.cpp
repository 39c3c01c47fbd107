// Reads bytes and writes what the firmware's receiver makes of them: a line a frame. Built with sanitizers by
// test_parser.py.
#include <stdio.h>

#include "runtime/link.h"
#include "uart/uart.h"

namespace et {
void uart_init() {}
void uart_put(uint8_t) {}
int32_t uart_get() { return -1; }
void uart_flush() {}
}  // namespace et

int main() {
  int byte;
  while ((byte = getchar()) != EOF) {
    et::Frame frame;
    if (et::link_take(static_cast<uint8_t>(byte), &frame)) {
      printf("%u %u ", frame.kind, frame.sequence);
      for (uint32_t i = 0; i < frame.size; ++i) {
        printf("%02x", frame.body[i]);
      }
      printf("\n");
    }
  }
  printf("bad %u\n", et::link_bad_frames());
}
