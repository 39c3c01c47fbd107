// Moves and fills bytes by words: the C libraries of small chips do it byte by byte, and for a row of a tensor their
// calls take as long as the row.
#pragma once

#include <stdint.h>

namespace et {

#if defined(__ARM_FEATURE_UNALIGNED) || defined(__x86_64__) || defined(__aarch64__)
constexpr bool kWordsAnywhere = true;
#else
constexpr bool kWordsAnywhere = false;
#endif

inline bool words_at(const void* a, const void* b) {
  return kWordsAnywhere || ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) & 3) == 0;
}

inline __attribute__((always_inline)) uint32_t get_word(const uint8_t* from) {
  uint32_t word;
  __builtin_memcpy(&word, kWordsAnywhere ? from : __builtin_assume_aligned(from, 4), sizeof word);
  return word;
}

inline __attribute__((always_inline)) void put_word(uint8_t* to, uint32_t word) {
  __builtin_memcpy(kWordsAnywhere ? to : __builtin_assume_aligned(to, 4), &word, sizeof word);
}

// To another place, the same, or one before it that overlaps.
inline __attribute__((noinline)) void move_bytes(uint8_t* to, const uint8_t* from, int32_t count) {
  const uint8_t* const end = from + count;
  if (words_at(to, from)) {
    for (const uint8_t* const blocks = from + (count & ~15); from != blocks;) {
      const uint32_t a = get_word(from);
      const uint32_t b = get_word(from + 4);
      const uint32_t c = get_word(from + 8);
      const uint32_t d = get_word(from + 12);
      from += 16;
      put_word(to, a);
      put_word(to + 4, b);
      put_word(to + 8, c);
      put_word(to + 12, d);
      to += 16;
      asm volatile("" : "+r"(from), "+r"(to));  // or the compiler counts beside the two pointers
    }
    for (const uint8_t* const words = end - (count & 3); from != words;) {
      put_word(to, get_word(from));
      from += 4;
      to += 4;
    }
  } else {
    for (const uint8_t* const fours = from + (count & ~3); from != fours;) {
      const uint8_t a = from[0];
      const uint8_t b = from[1];
      const uint8_t c = from[2];
      const uint8_t d = from[3];
      from += 4;
      to[0] = a;
      to[1] = b;
      to[2] = c;
      to[3] = d;
      to += 4;
    }
  }
  while (from != end) {
    *to++ = *from++;
  }
}

inline __attribute__((noinline)) void fill_bytes(uint8_t* to, uint8_t value, int32_t count) {
  const uint32_t word = value * UINT32_C(0x01010101);
  if (words_at(to, to)) {
    for (; count >= 16; count -= 16) {
      put_word(to, word);
      put_word(to + 4, word);
      put_word(to + 8, word);
      put_word(to + 12, word);
      to += 16;
    }
  }
  for (; count > 0; --count) {
    asm volatile("" : : : "memory");  // or the compiler calls memset
    *to++ = value;
  }
}

// Rows shorter than this are moved where they are.
constexpr int32_t kShortMove = 8;

template <class T>
inline __attribute__((always_inline)) void move_row(T* to, const T* from, int32_t n) {
  const int32_t bytes = n * static_cast<int32_t>(sizeof(T));
  if (bytes >= kShortMove) {
    move_bytes(reinterpret_cast<uint8_t*>(to), reinterpret_cast<const uint8_t*>(from), bytes);
  } else {
    for (int32_t i = 0; i < n; ++i) {
      to[i] = from[i];
    }
  }
}

}  // namespace et
