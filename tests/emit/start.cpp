// The least that a bare-metal image needs, to look at what the linker script makes of it.
#include "program.h"

extern "C" {
extern uint8_t __image_start[], __image_end[], __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];
extern uint8_t __stack_bottom[], __stack_top[], __arena_start[], __arena_end[];
int counted = 41;  // .data
int cleared;       // .bss

__attribute__((section(".vectors"), used)) void _start() {
  for (uint32_t i = 0; i < static_cast<uint32_t>(__data_end - __data_start); ++i) __data_start[i] = __data_load[i];
  for (uint8_t* at = __bss_start; at != __bss_end; ++at) *at = 0;
  toy::init();
  toy::run();
  cleared = ++counted + static_cast<int>(__image_end - __image_start) + static_cast<int>(__arena_end - __arena_start) +
            static_cast<int>(__stack_top - __stack_bottom);
  for (;;) {
  }
}
}
