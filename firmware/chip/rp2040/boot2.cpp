// The second stage of the RP2040's boot (datasheet, section 2.8.1). The ROM copies the first 256 bytes of flash to the
// end of RAM, checks the CRC that is their last word, and jumps there. This one makes the flash readable at 0x10000000
// by the plain command 03h, which every flash chip understands, and goes on at the vector table behind it. It is slow:
// a quad read is about three times as fast, and differs from one flash chip to the next.
#include <stdint.h>

namespace et {
namespace {

struct Boot2 {
  uint16_t code[126];  // 252 bytes
  uint32_t crc;
};

// A test assembles the right column and compares.
constexpr uint16_t kCode[] = {
    0x4B0A,          // ldr r3, [pc, #40]  @ 0x18000000, the serial flash's controller (section 4.10)
    0x2000,          // movs r0, #0
    0x6098,          // str r0, [r3, #8]  @ SSIENR: off while it is set up
    0x2004,          // movs r0, #4
    0x6158,          // str r0, [r3, #20]  @ BAUDR: a quarter of the system clock
    0x4809,          // ldr r0, [pc, #36]  @ CTRLR0: 32 bits a frame, command and then data
    0x6018,          // str r0, [r3, #0]
    0x2000,          // movs r0, #0
    0x6058,          // str r0, [r3, #4]  @ CTRLR1: one frame a read
    0x4908,          // ldr r1, [pc, #32]
    0x4808,          // ldr r0, [pc, #32]  @ SPI_CTRLR0: command 03h of 8 bits, then 24 bits of address
    0x6008,          // str r0, [r1, #0]
    0x2001,          // movs r0, #1
    0x6098,          // str r0, [r3, #8]  @ SSIENR: on
    0x4807,          // ldr r0, [pc, #28]  @ the vector table: stack, reset, ...
    0x4908,          // ldr r1, [pc, #32]
    0x6008,          // str r0, [r1, #0]  @ VTOR
    0xC806,          // ldmia r0!, {r1, r2}
    0xF381, 0x8808,  // msr msp, r1
    0x4710,          // bx r2
    0x46C0,          // .balign 4
    0x0000, 0x1800,  // .word 0x18000000
    0x0300, 0x001F,  // .word 0x001F0300
    0x00F4, 0x1800,  // .word 0x180000F4
    0x0218, 0x0300,  // .word 0x03000218
    0x0100, 0x1000,  // .word 0x10000100
    0xED08, 0xE000,  // .word 0xE000ED08
};

// CRC-32 with polynomial 0x04C11DB7 from 0xFFFFFFFF, bits in order, not inverted at the end (section 2.8.1.3.1).
constexpr uint32_t crc(const uint16_t* code, uint32_t count) {
  uint32_t value = 0xFFFFFFFF;
  for (uint32_t byte = 0; byte < 2 * count; ++byte) {
    value ^= static_cast<uint32_t>(code[byte / 2] >> 8 * (byte % 2) & 0xFF) << 24;
    for (uint32_t bit = 0; bit < 8; ++bit) {
      value = value & 0x80000000 ? value << 1 ^ 0x04C11DB7 : value << 1;
    }
  }
  return value;
}

constexpr Boot2 with_crc() {
  Boot2 made = {};
  for (uint32_t i = 0; i < sizeof(kCode) / 2; ++i) {
    made.code[i] = kCode[i];
  }
  made.crc = crc(made.code, 126);
  return made;
}

}  // namespace

extern const Boot2 boot2;
__attribute__((section(".boot"), used)) constexpr Boot2 boot2 = with_crc();
static_assert(sizeof(Boot2) == 256, "what the ROM copies");

}  // namespace et
