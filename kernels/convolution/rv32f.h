// Strips on RV32 with F: an assembly tile for 4 channels of 6 positions, the compiler's for the rest.
//
// 37 instructions for 24 products and 8 more every 4 inputs: 1.63 a multiply-accumulate; every operand is loaded by
// itself. The compiler's tile of 4 x 5 has the same loop, but spends three times as much round it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "convolution/convolution.h"
#include "convolution/depthwise.h"
#include "convolution/transposed.h"

namespace et {

// The assembly reads the strip by these offsets.
static_assert(offsetof(Strip, rows) == 0 && offsetof(Strip, kernel_rows) == 4 && offsetof(Strip, taps) == 20 &&
              offsetof(Strip, tap_step) == 24 && offsetof(Strip, weight_skip) == 36 && offsetof(Strip, out) == 44 &&
              offsetof(Strip, residual) == 52 && offsetof(Strip, low) == 60 && offsetof(Strip, high) == 64);

// One input of one position: its 4 sums += value * weights (f24-f27).
#define ET_RV32F_INPUT(pointer, at, x, a, b, c, d)                                                    \
  "flw " x ", " at "(" pointer ")\n fmadd.s " a ", f24, " x ", " a "\n fmadd.s " b ", f25, " x ", " b \
  "\n"                                                                                                \
  "fmadd.s " c ", f26, " x ", " c "\n fmadd.s " d ", f27, " x ", " d "\n"
// One input of 6 positions, whose rows a1-a6 point to; a7 points to the weights.
#define ET_RV32F_STEP(at)                                                                                 \
  "flw f24, 0(a7)\n flw f25, 4(a7)\n flw f26, 8(a7)\n flw f27, 12(a7)\n add a7, a7, s8\n" ET_RV32F_INPUT( \
      "a1", at, "f28", "f0", "f1", "f2", "f3") ET_RV32F_INPUT("a2", at, "f29", "f4", "f5", "f6", "f7")    \
      ET_RV32F_INPUT("a3", at, "f30", "f8", "f9", "f10", "f11")                                           \
          ET_RV32F_INPUT("a4", at, "f31", "f12", "f13", "f14", "f15")                                     \
              ET_RV32F_INPUT("a5", at, "f28", "f16", "f17", "f18", "f19")                                 \
                  ET_RV32F_INPUT("a6", at, "f29", "f20", "f21", "f22", "f23")
#define ET_RV32F_ADVANCE(bytes)                                           \
  "addi a1, a1, " bytes "\n addi a2, a2, " bytes "\n addi a3, a3, " bytes \
  "\n"                                                                    \
  "addi a4, a4, " bytes "\n addi a5, a5, " bytes "\n addi a6, a6, " bytes "\n"
#define ET_RV32F_RESIDUAL(a, b, c, d)                                                     \
  "flw f28, 0(t6)\n flw f29, 4(t6)\n flw f30, 8(t6)\n flw f31, 12(t6)\n add t6, t6, s9\n" \
  "fadd.s " a ", " a ", f28\n fadd.s " b ", " b ", f29\n fadd.s " c ", " c ", f30\n fadd.s " d ", " d ", f31\n"
#define ET_RV32F_LOW(x) "flt.s t6, " x ", f24\n beqz t6, 20f\n fmv.s " x ", f24\n 20:\n"
#define ET_RV32F_HIGH(x) "flt.s t6, f25, " x "\n beqz t6, 21f\n fmv.s " x ", f25\n 21:\n"
#define ET_RV32F_STORE(a, b, c, d) \
  "fsw " a ", 0(s3)\n fsw " b ", 4(s3)\n fsw " c ", 8(s3)\n fsw " d ", 12(s3)\n add s3, s3, s9\n"

// 4 channels (from `channel` of the block on) of `count` * 6 positions from the start of the strip.
inline __attribute__((noinline)) void six_of_four(const Strip& strip_, int32_t channel, int32_t count_) {
  register const Strip* strip asm("a0") = &strip_;
  register int32_t at asm("s2") = strip_.offset * 4;
  register float* out asm("s3") = strip_.out + channel;
  register const float* begin asm("t1") = strip_.out;
  register int32_t count asm("s4") = count_;
  register const float* bias asm("s5") = strip_.bias + channel;
  register const float* weight asm("s6") = strip_.weight + channel;
  register int32_t step asm("s7") = strip_.step * 4;
  register int32_t lanes asm("s8") = strip_.lanes * 4;
  register int32_t out_step asm("s9") = strip_.out_step * 4;
  register int32_t fours asm("s10") = strip_.length >> 2;
  register int32_t ones asm("s11") = strip_.length & 3;
  asm volatile(
      "1:\n"  // 6 positions
      "flw f0, 0(s5)\n flw f1, 4(s5)\n flw f2, 8(s5)\n flw f3, 12(s5)\n"
      "fmv.s f4, f0\n fmv.s f5, f1\n fmv.s f6, f2\n fmv.s f7, f3\n"
      "fmv.s f8, f0\n fmv.s f9, f1\n fmv.s f10, f2\n fmv.s f11, f3\n"
      "fmv.s f12, f0\n fmv.s f13, f1\n fmv.s f14, f2\n fmv.s f15, f3\n"
      "fmv.s f16, f0\n fmv.s f17, f1\n fmv.s f18, f2\n fmv.s f19, f3\n"
      "fmv.s f20, f0\n fmv.s f21, f1\n fmv.s f22, f2\n fmv.s f23, f3\n"
      "mv a7, s6\n lw t2, 0(a0)\n lw t3, 4(a0)\n"
      "2:\n"  // a row of the window
      "lw a1, 0(t2)\n addi t2, t2, 4\n add a1, a1, s2\n lw t4, 20(a0)\n"
      "3:\n"  // a stretch of inputs
      "mv t5, a1\n add a2, a1, s7\n add a3, a2, s7\n add a4, a3, s7\n add a5, a4, s7\n add a6, a5, s7\n"
      "mv t0, s10\n beqz t0, 5f\n"
      "4:\n"
      ET_RV32F_STEP("0") ET_RV32F_STEP("4") ET_RV32F_STEP("8") ET_RV32F_STEP("12")
      ET_RV32F_ADVANCE("16")
      "addi t0, t0, -1\n bnez t0, 4b\n"
      "5:\n"
      "mv t0, s11\n beqz t0, 7f\n"
      "6:\n"
      ET_RV32F_STEP("0")
      ET_RV32F_ADVANCE("4")
      "addi t0, t0, -1\n bnez t0, 6b\n"
      "7:\n"
      "addi t4, t4, -1\n beqz t4, 8f\n"
      "lw t6, 24(a0)\n slli t6, t6, 2\n add a1, t5, t6\n j 3b\n"
      "8:\n"
      "lw t6, 36(a0)\n slli t6, t6, 2\n add a7, a7, t6\n"
      "addi t3, t3, -1\n bnez t3, 2b\n"
      "lw t6, 52(a0)\n beqz t6, 9f\n"
      "sub t6, t6, t1\n add t6, t6, s3\n"  // t1: where the strip's results begin
      ET_RV32F_RESIDUAL("f0", "f1", "f2", "f3")
      ET_RV32F_RESIDUAL("f4", "f5", "f6", "f7")
      ET_RV32F_RESIDUAL("f8", "f9", "f10", "f11")
      ET_RV32F_RESIDUAL("f12", "f13", "f14", "f15")
      ET_RV32F_RESIDUAL("f16", "f17", "f18", "f19")
      ET_RV32F_RESIDUAL("f20", "f21", "f22", "f23")
      "9:\n"
      "flw f24, 60(a0)\n flw f25, 64(a0)\n"
      "lw t6, 60(a0)\n lui t5, 0xff800\n beq t6, t5, 10f\n"
      ET_RV32F_LOW("f0") ET_RV32F_LOW("f1") ET_RV32F_LOW("f2") ET_RV32F_LOW("f3")
      ET_RV32F_LOW("f4") ET_RV32F_LOW("f5") ET_RV32F_LOW("f6") ET_RV32F_LOW("f7")
      ET_RV32F_LOW("f8") ET_RV32F_LOW("f9") ET_RV32F_LOW("f10") ET_RV32F_LOW("f11")
      ET_RV32F_LOW("f12") ET_RV32F_LOW("f13") ET_RV32F_LOW("f14") ET_RV32F_LOW("f15")
      ET_RV32F_LOW("f16") ET_RV32F_LOW("f17") ET_RV32F_LOW("f18") ET_RV32F_LOW("f19")
      ET_RV32F_LOW("f20") ET_RV32F_LOW("f21") ET_RV32F_LOW("f22") ET_RV32F_LOW("f23")
      "10:\n"
      "lw t6, 64(a0)\n lui t5, 0x7f800\n beq t6, t5, 11f\n"
      ET_RV32F_HIGH("f0") ET_RV32F_HIGH("f1") ET_RV32F_HIGH("f2") ET_RV32F_HIGH("f3")
      ET_RV32F_HIGH("f4") ET_RV32F_HIGH("f5") ET_RV32F_HIGH("f6") ET_RV32F_HIGH("f7")
      ET_RV32F_HIGH("f8") ET_RV32F_HIGH("f9") ET_RV32F_HIGH("f10") ET_RV32F_HIGH("f11")
      ET_RV32F_HIGH("f12") ET_RV32F_HIGH("f13") ET_RV32F_HIGH("f14") ET_RV32F_HIGH("f15")
      ET_RV32F_HIGH("f16") ET_RV32F_HIGH("f17") ET_RV32F_HIGH("f18") ET_RV32F_HIGH("f19")
      ET_RV32F_HIGH("f20") ET_RV32F_HIGH("f21") ET_RV32F_HIGH("f22") ET_RV32F_HIGH("f23")
      "11:\n"
      ET_RV32F_STORE("f0", "f1", "f2", "f3")
      ET_RV32F_STORE("f4", "f5", "f6", "f7")
      ET_RV32F_STORE("f8", "f9", "f10", "f11")
      ET_RV32F_STORE("f12", "f13", "f14", "f15")
      ET_RV32F_STORE("f16", "f17", "f18", "f19")
      ET_RV32F_STORE("f20", "f21", "f22", "f23")
      "slli t6, s7, 1\n add t6, t6, s7\n slli t6, t6, 1\n add s2, s2, t6\n"
      "addi s4, s4, -1\n bnez s4, 1b\n"
      : "+r"(at), "+r"(out), "+r"(count)
      : "r"(strip), "r"(bias), "r"(weight), "r"(step), "r"(lanes), "r"(out_step), "r"(fours), "r"(ones), "r"(begin)
      : "a1", "a2", "a3", "a4", "a5", "a6", "a7", "t0", "t2", "t3", "t4", "t5", "t6", "memory",
        "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5", "fa6", "fa7", "fs2",
        "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11");
}

struct Rv32f {
  static constexpr int32_t kLanes = 16;
  static constexpr int32_t kDepthwiseLanes = 4;
  static constexpr int32_t kBiasWords = 1;

  struct Scope {
    Scope() {}
  };

  static void run(const Strip& strip) {
    Strip rest = strip;
    const int32_t sixes = strip.kernel_rows > 0 && strip.channels == strip.lanes ? strip.positions / 6 : 0;
    if (sixes > 0) {
      for (int32_t channel = 0; channel < strip.lanes; channel += 4) {
        six_of_four(strip, channel, sixes);
      }
      const int32_t done = 6 * sixes;
      rest.offset += done * strip.step;
      rest.positions -= done;
      rest.out += done * strip.out_step;
      rest.residual = strip.residual == nullptr ? nullptr : strip.residual + done * strip.out_step;
    }
    if (rest.positions > 0) {
      run_strip<3, kLanes>(rest);
    }
  }

  static void depthwise(const Strip& strip) { depthwise_strip(strip); }
};

}  // namespace et
