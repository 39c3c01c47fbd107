// Armv7E-M DSP instructions, for kernels that take four bytes at a time. Words may lie anywhere: LDR and STR take any
// address. Only variants for cores with these instructions include this.
#pragma once

#include <stdint.h>

namespace et {

inline __attribute__((always_inline)) uint32_t load4(const int8_t* from) {
  uint32_t word;
  __builtin_memcpy(&word, from, sizeof word);
  return word;
}

inline __attribute__((always_inline)) void store4(int8_t* to, uint32_t word) {
  __builtin_memcpy(to, &word, sizeof word);
}

// A byte in all four places, or an integer of 16 bits in both.
inline uint32_t four_of(int32_t value) { return static_cast<uint8_t>(value) * UINT32_C(0x01010101); }
inline uint32_t two_of(int32_t value) { return static_cast<uint16_t>(value) * UINT32_C(0x00010001); }

// (upper, lower) halves of two words.
inline __attribute__((always_inline)) uint32_t lower_halves(uint32_t upper, uint32_t lower) {
  uint32_t both;
  asm("pkhbt %0, %1, %2, lsl #16" : "=r"(both) : "r"(lower), "r"(upper));
  return both;
}

inline __attribute__((always_inline)) uint32_t upper_halves(uint32_t upper, uint32_t lower) {
  uint32_t both;
  asm("pkhtb %0, %1, %2, asr #16" : "=r"(both) : "r"(upper), "r"(lower));
  return both;
}

// Bytes 0 and 2, and bytes 1 and 3, as two integers of 16 bits.
inline __attribute__((always_inline)) uint32_t even_bytes(uint32_t word) {
  uint32_t pair;
  asm("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
  return pair;
}

inline __attribute__((always_inline)) uint32_t odd_bytes(uint32_t word) {
  uint32_t pair;
  asm("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}

// The same, added to a pair.
inline __attribute__((always_inline)) uint32_t add_even_bytes(uint32_t to, uint32_t word) {
  uint32_t pair;
  asm("sxtab16 %0, %1, %2" : "=r"(pair) : "r"(to), "r"(word));
  return pair;
}

inline __attribute__((always_inline)) uint32_t add_odd_bytes(uint32_t to, uint32_t word) {
  uint32_t pair;
  asm("sxtab16 %0, %1, %2, ror #8" : "=r"(pair) : "r"(to), "r"(word));
  return pair;
}

inline __attribute__((always_inline)) int32_t lower_of(uint32_t pair) { return static_cast<int16_t>(pair); }
inline __attribute__((always_inline)) int32_t upper_of(uint32_t pair) { return static_cast<int32_t>(pair) >> 16; }

// to + the four bytes, which are unsigned
inline __attribute__((always_inline)) uint32_t add_four(uint32_t to, uint32_t word) {
  uint32_t sum;
  asm("usada8 %0, %1, %2, %3" : "=r"(sum) : "r"(word), "r"(0), "r"(to));
  return sum;
}

// acc + a.lower * b.lower + a.upper * b.upper
inline __attribute__((always_inline)) int32_t multiply_both(uint32_t a, uint32_t b, int32_t acc) {
  int32_t sum;
  asm("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
  return sum;
}

inline __attribute__((always_inline)) int32_t multiply_lower(uint32_t a, uint32_t b) {
  int32_t product;
  asm("smulbb %0, %1, %2" : "=r"(product) : "r"(a), "r"(b));
  return product;
}

inline __attribute__((always_inline)) int32_t multiply_upper(uint32_t a, uint32_t b) {
  int32_t product;
  asm("smultt %0, %1, %2" : "=r"(product) : "r"(a), "r"(b));
  return product;
}

// add + requantized(acc, multiplier, 0)
inline __attribute__((always_inline)) int32_t requantized_to(int32_t add, int32_t acc, int32_t multiplier) {
  int32_t sum;
  asm("smmlar %0, %1, %2, %3" : "=r"(sum) : "r"(acc), "r"(multiplier), "r"(add));
  return sum;
}

inline __attribute__((always_inline)) int8_t saturated8(int32_t value) {
  int32_t inside;
  asm("ssat %0, #8, %1" : "=r"(inside) : "r"(value));
  return static_cast<int8_t>(inside);
}

// *to++ = the value, saturated. The compiler would put bytes together first, which takes longer than storing them.
inline __attribute__((always_inline)) void put_saturated8(int8_t*& to, int32_t value) {
  asm volatile("ssat %1, #8, %1\n strb %1, [%0], #1" : "+r"(to), "+r"(value) : : "memory");
}

// The same for value >> kShift, 0 < kShift < 32.
template <int32_t kShift>
inline __attribute__((always_inline)) void put_shifted8(int8_t*& to, int32_t value) {
  asm volatile("ssat %1, #8, %1, asr %2\n strb %1, [%0], #1" : "+r"(to), "+r"(value) : "i"(kShift) : "memory");
}

// The larger and the smaller of each pair of signed bytes.
inline __attribute__((always_inline)) uint32_t larger4(uint32_t a, uint32_t b) {
  uint32_t difference;
  asm("ssub8 %1, %0, %2\n sel %0, %0, %2" : "+r"(a), "=&r"(difference) : "r"(b) : "cc");
  return a;
}

inline __attribute__((always_inline)) uint32_t smaller4(uint32_t a, uint32_t b) {
  uint32_t difference;
  asm("ssub8 %1, %0, %2\n sel %0, %2, %0" : "+r"(a), "=&r"(difference) : "r"(b) : "cc");
  return a;
}

// Bounds within int8 for n bytes that are stored: 1.75 instructions each.
inline __attribute__((noinline)) void clamp4(int8_t* bytes, int32_t n, int32_t low, int32_t high) {
  const uint32_t lows = four_of(low);
  const uint32_t highs = four_of(high);
  for (; n >= 4; n -= 4) {
    store4(bytes, smaller4(larger4(load4(bytes), lows), highs));
    bytes += 4;
  }
  for (; n > 0; --n) {
    *bytes = static_cast<int8_t>(*bytes < low ? low : (*bytes > high ? high : *bytes));
    ++bytes;
  }
}

}  // namespace et
