// Tiles on RV32 with multiplication: 4 positions x 4 channels, whose sums take more than half of the registers.
//
// 40 instructions for 16 products and 6 more every 8 bytes: 2.55 a multiply-accumulate, of which 2 are the least there
// can be; then 6 for each result. By hand, as the compiler's own loads, hoisted over each other, push sums out of
// registers.
#pragma once

#include <stdint.h>

#include "convolution/quantized_dense.h"

namespace et {

#if defined(__riscv_mul) && !defined(__riscv_32e)

// Byte k of one position, whose bytes `pointer` points to, times the weights t0-t3.
#define ET_RV32_POSITION(pointer, k, a, b, c, d)                                                       \
  "lb t4, " k "(" pointer ")\n mul t5, t0, t4\n add " a ", " a ", t5\n mul t5, t1, t4\n add " b ", " b \
  ", t5\n mul t5, t2, t4\n add " c ", " c ", t5\n mul t5, t3, t4\n add " d ", " d ", t5\n"
// Byte k of 4 positions.
#define ET_RV32_BYTE(k, w0, w1, w2, w3)                                                                          \
  "lb t0, " w0 "(s1)\n lb t1, " w1 "(s1)\n lb t2, " w2 "(s1)\n lb t3, " w3                                       \
  "(s1)\n" ET_RV32_POSITION("s10", k, "a0", "a1", "a2", "a3") ET_RV32_POSITION("s11", k, "a4", "a5", "a6", "a7") \
      ET_RV32_POSITION("t6", k, "s2", "s3", "s4", "s5") ET_RV32_POSITION("s0", k, "s6", "s7", "s8", "s9")
// requantized_doubled and saturated: multiplier, 2 * zero point + 1 in t4, bounds in t5 and t6.
#define ET_RV32_STORE(sum, multiplier, at)                                                                 \
  "mulh " sum ", " sum ", " multiplier "\n add " sum ", " sum ", t4\n srai " sum ", " sum ", 1\n bge " sum \
  ", t5, 11f\n mv " sum ", t5\n 11:\n bge t6, " sum ", 12f\n mv " sum ", t6\n 12:\n sb " sum ", " at "(s0)\n"
#define ET_RV32_STORE_POSITION(a, b, c, d) \
  ET_RV32_STORE(a, "t0", "0") ET_RV32_STORE(b, "t1", "1") ET_RV32_STORE(c, "t2", "2") ET_RV32_STORE(d, "t3", "3")

struct Rv32Tile8 {
  static constexpr int32_t kPositions = 4;
  using One = Tile8<1, 4>;

  template <Scale8 kScale>
  static inline __attribute__((always_inline)) void make(const Store8& store, int32_t outputs, int8_t* out,
                                                         int32_t step, const Seen8<4>& seen, const int8_t* packed) {
    static_assert(sizeof(void*) == 4);
    Tile8<4, 4>::Sums sums;
    // The assembly has all registers but sp, gp and tp, so it reaches these from sp.
    const int8_t* const* const last = seen.at[seen.count];
    const int32_t quads = (seen.length & ~3) * 4;
    const int32_t rest = (seen.length & 3) * 4;
    const int32_t rounding = 2 * store.zero_point + 1;
    const int32_t low = store.low;
    const int32_t high = store.high;
    const int32_t across = step;
    int32_t whole = kScale == Scale8::kNearest ? outputs & ~3 : 0;  // what it stores itself
    register const int8_t* weights asm("s1") = packed;
    for (int32_t left = outputs; left > 0; left -= 4) {
      const int8_t* const* at = seen.at[0];
      int32_t* const sums_only = whole > 0 ? nullptr : sums[0];
      asm volatile(
        "lw a0, 0(s1)\n lw a1, 4(s1)\n lw a2, 8(s1)\n lw a3, 12(s1)\n addi s1, s1, 16\n"
        "mv a4, a0\n mv a5, a1\n mv a6, a2\n mv a7, a3\n mv s2, a0\n mv s3, a1\n mv s4, a2\n mv s5, a3\n"
        "mv s6, a0\n mv s7, a1\n mv s8, a2\n mv s9, a3\n"
        "1:\n"  // a stretch
        "lw ra, %[at]\n lw s10, 0(ra)\n lw s11, 4(ra)\n lw t6, 8(ra)\n lw s0, 12(ra)\n addi ra, ra, 16\n sw ra, %[at]\n"
        "lw ra, %[quads]\n beqz ra, 3f\n andi t0, ra, 16\n add ra, ra, s1\n beqz t0, 2f\n"
          "addi s10, s10, -4\n addi s11, s11, -4\n addi t6, t6, -4\n addi s0, s0, -4\n addi s1, s1, -16\n j 22f\n"
          "2:\n"  // 8 bytes, or, from the middle on, the first 4 of an odd number of fours
          ET_RV32_BYTE("0", "0", "1", "2", "3") ET_RV32_BYTE("1", "4", "5", "6", "7")
          ET_RV32_BYTE("2", "8", "9", "10", "11") ET_RV32_BYTE("3", "12", "13", "14", "15")
          "22:\n"
          ET_RV32_BYTE("4", "16", "17", "18", "19") ET_RV32_BYTE("5", "20", "21", "22", "23")
          ET_RV32_BYTE("6", "24", "25", "26", "27") ET_RV32_BYTE("7", "28", "29", "30", "31")
          "addi s10, s10, 8\n addi s11, s11, 8\n addi t6, t6, 8\n addi s0, s0, 8\n addi s1, s1, 32\n bne s1, ra, 2b\n"
          "3:\n"
        "lw ra, %[rest]\n beqz ra, 5f\n add ra, ra, s1\n"
        "4:\n"  // one
        ET_RV32_BYTE("0", "0", "1", "2", "3")
        "addi s10, s10, 1\n addi s11, s11, 1\n addi t6, t6, 1\n addi s0, s0, 1\n addi s1, s1, 4\n bne s1, ra, 4b\n"
        "5:\n"
        "lw t0, %[at]\n lw t1, %[last]\n bne t0, t1, 1b\n"
        "lw t0, %[sums]\n bnez t0, 6f\n"
        "lw t0, 0(s1)\n lw t1, 4(s1)\n lw t2, 8(s1)\n lw t3, 12(s1)\n lw t4, %[rounding]\n lw t5, %[low]\n lw t6, %[high]\n"
        "lw s0, %[out]\n lw ra, %[step]\n"
        ET_RV32_STORE_POSITION("a0", "a1", "a2", "a3") "add s0, s0, ra\n"
        ET_RV32_STORE_POSITION("a4", "a5", "a6", "a7") "add s0, s0, ra\n"
        ET_RV32_STORE_POSITION("s2", "s3", "s4", "s5") "add s0, s0, ra\n"
        ET_RV32_STORE_POSITION("s6", "s7", "s8", "s9") "j 7f\n"
        "6:\n"
        "sw a0, 0(t0)\n sw a1, 4(t0)\n sw a2, 8(t0)\n sw a3, 12(t0)\n sw a4, 16(t0)\n sw a5, 20(t0)\n sw a6, 24(t0)\n sw a7, 28(t0)\n"
        "sw s2, 32(t0)\n sw s3, 36(t0)\n sw s4, 40(t0)\n sw s5, 44(t0)\n sw s6, 48(t0)\n sw s7, 52(t0)\n sw s8, 56(t0)\n sw s9, 60(t0)\n"
        "7:\n"
        : "+r"(weights), [at] "+m"(at)
        : [last] "m"(last), [quads] "m"(quads), [rest] "m"(rest), [rounding] "m"(rounding), [low] "m"(low),
          [high] "m"(high), [out] "m"(out), [step] "m"(across), [sums] "m"(sums_only)
        : "ra", "s0", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
          "t0", "t1", "t2", "t3", "t4", "t5", "t6", "memory");
      if (whole <= 0) {
        Tile8<4, 4>::store_some<kScale>(store, out, step, smaller(left, 4), sums, weights);
      }
      weights += kScaleBytes<kScale>;
      whole -= 4;
      out += 4;
    }
  }
};

#undef ET_RV32_STORE_POSITION
#undef ET_RV32_STORE
#undef ET_RV32_BYTE
#undef ET_RV32_POSITION

#else  // no multiplication, or half of the registers

using Rv32Tile8 = Tile8<4, 1>;

#endif

}  // namespace et
