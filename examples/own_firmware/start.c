/* What a board's own support package has: vectors, start-up, a timer that interrupts, a line of text to the host. QEMU's mps2-an386. */
#include "start.h"

#include <string.h>

extern const uint32_t data_load[];
extern uint32_t data_start[], data_end[], bss_start[], bss_end[], stack_top[];

int main(void);
void reset(void);

static void ask_host(uint32_t what, const void* with) { /* semihosting */
  register uint32_t operation __asm__("r0") = what;
  register const void* block __asm__("r1") = with;
  __asm__ volatile("bkpt 0xAB" : "+r"(operation) : "r"(block) : "memory");
}

static void leave(uint32_t code) {
  const uint32_t block[2] = {0x20026, code};
  for (;;) {
    ask_host(0x20, block);
  }
}

static void fault(void) { leave(70); }

__attribute__((weak)) void on_tick(void) {}

void start_ticks(uint32_t cycles) { /* SysTick */
  volatile uint32_t* const timer = (volatile uint32_t*)0xE000E010;
  timer[1] = cycles - 1;
  timer[2] = 0;
  timer[0] = 7;
}

void say(float value) {
  char line[10] = "00000000\n";
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  for (int at = 7; at >= 0; --at, bits >>= 4) {
    line[at] = "0123456789abcdef"[bits & 15];
  }
  ask_host(0x04, line);
}

void reset(void) {
  volatile uint32_t* const access = (volatile uint32_t*)0xE000ED88;
  *access |= 0xFU << 20; /* the floating point unit */
  __asm__ volatile("dsb\n isb" ::: "memory");
  memcpy(data_start, data_load, (size_t)((char*)data_end - (char*)data_start));
  memset(bss_start, 0, (size_t)((char*)bss_end - (char*)bss_start));
  leave((uint32_t)main());
}

__attribute__((section(".vectors"), used)) const struct {
  uint32_t* stack;
  void (*handlers[15])(void);
} vectors = {stack_top, {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, on_tick}};
