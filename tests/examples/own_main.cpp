// A firmware of one's own round a network on a Cortex-M: start-up, one input and its outputs by semihosting, nothing of
// the bundled runtime. NET is the namespace of the model, INPUT and OUTPUT are its tensors, int8 of INPUT_BYTES and
// OUTPUT_BYTES elements.
#include <stddef.h>
#include <stdint.h>

#include "program.h"

extern "C" {
extern const uint32_t data_load[];
extern uint32_t data_start[], data_end[], bss_start[], bss_end[], stack_bottom[], stack_top[];
void reset();
}

namespace {

constexpr uint32_t kPaint = 0xC5C5C5C5;

// CMSDK timer 0, which counts down: 40 ns a tick.
volatile uint32_t* const timer = reinterpret_cast<volatile uint32_t*>(0x40000000);

struct Vectors {
  uint32_t* stack;
  void (*handlers[15])();
};

int32_t semihosting(uint32_t operation_, const void* block_) {
  register uint32_t operation asm("r0") = operation_;
  register const void* block asm("r1") = block_;
  asm volatile("bkpt 0xAB" : "+r"(operation) : "r"(block) : "memory");
  return static_cast<int32_t>(operation);
}

[[noreturn]] void leave(uint32_t code) {
  const uint32_t block[] = {0x20026, code};  // ADP_Stopped_ApplicationExit
  for (;;) {
    semihosting(0x20, block);
  }
}

void fault() { leave(70); }

uint32_t open(const char* name, uint32_t length, uint32_t mode) {
  const struct {
    const char* name;
    uint32_t mode, length;
  } block = {name, mode, length};
  return static_cast<uint32_t>(semihosting(0x01, &block));
}

struct Transfer {
  uint32_t file;
  const void* data;
  uint32_t bytes;
};

uint32_t stack_used() {
  const uint32_t* p = stack_bottom;
  while (*p == kPaint) {
    ++p;
  }
  return static_cast<uint32_t>(stack_top - p) * 4;
}

[[noreturn]] void serve(uint32_t ready) {
  const Transfer input = {open("input.bin", 9, 1), NET::inputs::INPUT(), INPUT_BYTES};
  if (semihosting(0x06, &input) != 0) {
    leave(1);
  }
  NET::run();
  const uint32_t facts[] = {ready, stack_used()};
  const uint32_t file = open("output.bin", 10, 5);
  const Transfer answers[] = {{file, facts, sizeof(facts)}, {file, NET::outputs::OUTPUT(), OUTPUT_BYTES}};
  for (const Transfer& answer : answers) {
    semihosting(0x05, &answer);
  }
  leave(0);
}

}  // namespace

extern "C" __attribute__((section(".vectors"), used)) const Vectors vectors;
const Vectors vectors = {stack_top, {reset, fault, fault, fault, fault, fault}};

// Before memory is ready: no library call, so the loops must stay loops.
extern "C" __attribute__((noreturn, optimize("no-tree-loop-distribute-patterns"))) void reset() {
  timer[2] = 0xFFFFFFFF;
  timer[1] = 0xFFFFFFFF;
  timer[0] = 1;
  volatile uint32_t* const access = reinterpret_cast<volatile uint32_t*>(0xE000ED88);
  *access = *access | 0xFU << 20;  // the floating point unit
  asm volatile("dsb\n isb" ::: "memory");
  const uint32_t* from = data_load;
  for (uint32_t* to = data_start; to < data_end;) {
    *to++ = *from++;
  }
  for (uint32_t* to = bss_start; to < bss_end;) {
    *to++ = 0;
  }
  for (uint32_t* to = stack_bottom; to < static_cast<const uint32_t*>(__builtin_frame_address(0)) - 16;) {
    *to++ = kPaint;
  }
  NET::init();
  serve(0xFFFFFFFF - timer[1]);
}
