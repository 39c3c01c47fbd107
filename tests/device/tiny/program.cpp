#include "program.h"

#include <math.h>
#include <string.h>

#include "et/probe.h"

namespace tiny {

__attribute__((section(".bss.et.tiny_arena"))) Arena arena;

volatile int sink;

// Where no memory is: on MPS2, and on the others.
#if defined(__arm__)
uint32_t* volatile nowhere = reinterpret_cast<uint32_t*>(0x70000000);
#else
uint32_t* volatile nowhere = reinterpret_cast<uint32_t*>(0x10);
#endif

// What the first element of x asks for.
__attribute__((noinline)) void misbehave(float what) {
  if (what == 1e30f) {
    for (;;) {
      sink = 1;
    }
  }
  if (what == 2e30f) {
    *nowhere = 1;
  }
  if (what == 3e30f) {
#if defined(__arm__)
    __asm volatile("udf #1");
#else
    __builtin_trap();
#endif
  }
}

__attribute__((noinline)) uint32_t deep(uint32_t n) {
  volatile uint32_t room[64];
  room[0] = n;
  return n == 0 ? 0 : deep(n - 1) + room[0];
}

void init() { arena.runs = 0; }

void run() {
  // 0  sum
  et::probe(0);
  for (int row = 0; row < 2; ++row) {
    arena.sum[row] = arena.x[3 * row] + arena.x[3 * row + 1] + arena.x[3 * row + 2];
  }
  et::trace(0, 0, arena.sum, sizeof(arena.sum));
  // 1  misbehave
  et::probe(1);
  misbehave(arena.x[0]);
  if (arena.x[0] == 4e30f) {
    sink = static_cast<int>(deep(100000));
  }
#if defined(TINY_ROUNDS)
  // Two instructions a round, whatever the compiler thinks, and as many rounds as the first bytes of the image say.
  uint32_t rounds;
  memcpy(&rounds, arena.image, sizeof(rounds));
#if defined(__arm__)
  __asm volatile(".syntax unified\n 1: subs %0, %0, #1\n bne 1b" : "+l"(rounds)::"cc");
#elif defined(__riscv)
  __asm volatile("1: addi %0, %0, -1\n bnez %0, 1b" : "+r"(rounds));
#endif
#endif
  // 2  table
  et::probe(2);
  ++arena.runs;
  for (int i = 0; i < 600; ++i) {
    arena.table[i] = arena.image[i % 48] * i + static_cast<int32_t>(arena.runs);
  }
  et::trace(2, 0, arena.table, sizeof(arena.table));
  et::probe(3);
}

}  // namespace tiny
