// Strips on the Cortex-M4 with FPU (Armv7E-M, single precision): two assembly tiles for blocks of 8 channels.
//
// Instructions a multiply-accumulate, in the loop and with everything round it (64 -> 64 channels, 1x1): two
// positions 1.13 and 1.20, one position 1.11 and 1.16. The limit of the scheme is 1 + 1/16 + 1/64: VLDM brings the
// operands of 16 VFMA, more do not fit into 32 registers. What is not in whole blocks of 8 channels is done in fours by
// the compiler's code (1.7).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "convolution/convolution.h"
#include "convolution/depthwise.h"
#include "convolution/transposed.h"

namespace et {

// The assembly reads the strip by these offsets.
static_assert(offsetof(Strip, rows) == 0 && offsetof(Strip, kernel_rows) == 4 && offsetof(Strip, step) == 12 &&
              offsetof(Strip, taps) == 20 && offsetof(Strip, tap_step) == 24 && offsetof(Strip, length) == 28 &&
              offsetof(Strip, weight) == 32 && offsetof(Strip, weight_skip) == 36 && offsetof(Strip, bias) == 40 &&
              offsetof(Strip, out) == 44 && offsetof(Strip, out_step) == 48 && offsetof(Strip, residual) == 52 &&
              offsetof(Strip, rectify) == 68);

// sums of position 0 (s0-s7) and 1 (s8-s15) += value * weights (s16-s23)
#define ET_M4F_MAC_0(x)                                                                           \
  "vfma.f32 s0, " x ", s16\n vfma.f32 s1, " x ", s17\n vfma.f32 s2, " x ", s18\n vfma.f32 s3, " x \
  ", s19\n"                                                                                       \
  "vfma.f32 s4, " x ", s20\n vfma.f32 s5, " x ", s21\n vfma.f32 s6, " x ", s22\n vfma.f32 s7, " x ", s23\n"
#define ET_M4F_MAC_1(x)                                                                             \
  "vfma.f32 s8, " x ", s16\n vfma.f32 s9, " x ", s17\n vfma.f32 s10, " x ", s18\n vfma.f32 s11, " x \
  ", s19\n"                                                                                         \
  "vfma.f32 s12, " x ", s20\n vfma.f32 s13, " x ", s21\n vfma.f32 s14, " x ", s22\n vfma.f32 s15, " x ", s23\n"
#define ET_M4F_PAIR(x0, x1) "vldmia r3!, {s16-s23}\n" ET_M4F_MAC_0(x0) ET_M4F_MAC_1(x1)
// the one position's sums (s0-s7) += two values times two rows of weights (s8-s15, s16-s23)
#define ET_M4F_MAC_LOW(x)                                                                       \
  "vfma.f32 s0, " x ", s8\n vfma.f32 s1, " x ", s9\n vfma.f32 s2, " x ", s10\n vfma.f32 s3, " x \
  ", s11\n"                                                                                     \
  "vfma.f32 s4, " x ", s12\n vfma.f32 s5, " x ", s13\n vfma.f32 s6, " x ", s14\n vfma.f32 s7, " x ", s15\n"
#define ET_M4F_TWO(x0, x1) "vldmia r3!, {s8-s23}\n" ET_M4F_MAC_LOW(x0) ET_M4F_MAC_0(x1)
// The residual.
#define ET_M4F_ADD_0                                                                            \
  "vadd.f32 s0, s0, s16\n vadd.f32 s1, s1, s17\n vadd.f32 s2, s2, s18\n vadd.f32 s3, s3, s19\n" \
  "vadd.f32 s4, s4, s20\n vadd.f32 s5, s5, s21\n vadd.f32 s6, s6, s22\n vadd.f32 s7, s7, s23\n"
#define ET_M4F_ADD_1                                                                                \
  "vadd.f32 s8, s8, s24\n vadd.f32 s9, s9, s25\n vadd.f32 s10, s10, s26\n vadd.f32 s11, s11, s27\n" \
  "vadd.f32 s12, s12, s28\n vadd.f32 s13, s13, s29\n vadd.f32 s14, s14, s30\n vadd.f32 s15, s15, s31\n"
#define ET_M4F_RESIDUAL_0                                                                               \
  "ldr r4, [r0, #52]\n cmp r4, #0\n beq.w 30f\n ldr r5, [r0, #44]\n sub r5, r10, r5\n add r4, r4, r5\n" \
  "vldmia r4, {s16-s23}\n" ET_M4F_ADD_0 "30:\n"
// Stores 8 floats at r10, negative ones as 0 where the clamp is a ReLU. USAT takes the bits for an integer, whose sign
// is the float's; NaNs are positive (see DefaultNan).
#define ET_M4F_STORE_8(label, range, a, b, c, d, e, f, g, h)                                                   \
  "ldr r4, [r0, #68]\n cmp r4, #0\n bne.w " label "f\n vstmia r10, {" range "}\n b.w 4" label "f\n" label      \
  ":\n"                                                                                                        \
  "vmov r1, r2, " a ", " b "\n vmov r3, r4, " c ", " d "\n vmov r5, r6, " e ", " f "\n vmov r7, r9, " g ", " h \
  "\n"                                                                                                         \
  "usat r1, #31, r1\n usat r2, #31, r2\n usat r3, #31, r3\n usat r4, #31, r4\n"                                \
  "usat r5, #31, r5\n usat r6, #31, r6\n usat r7, #31, r7\n usat r9, #31, r9\n"                                \
  "stmia r10, {r1-r7, r9}\n 4" label ":\n"
#define ET_M4F_STORE_0 ET_M4F_STORE_8("31", "s0-s7", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
#define ET_M4F_STORE_1 ET_M4F_STORE_8("32", "s8-s15", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15")
#define ET_M4F_SUMS "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15"
#define ET_M4F_OPERANDS \
  "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31"

// While it lives every NaN that an operation gives is the default one, whose sign bit is clear.
class DefaultNan {
 public:
  DefaultNan() {
    asm volatile("vmrs %0, fpscr" : "=r"(before_));
    asm volatile("vmsr fpscr, %0" : : "r"(before_ | 1u << 25) : "memory");
  }
  ~DefaultNan() { asm volatile("vmsr fpscr, %0" : : "r"(before_) : "memory"); }
  DefaultNan(const DefaultNan&) = delete;
  DefaultNan& operator=(const DefaultNan&) = delete;

 private:
  uint32_t before_;
};

// 8 channels of `pairs` * 2 positions from the start of the strip.
inline __attribute__((noinline)) void pairs_of_eight(const Strip& strip_, int32_t pairs_) {
  register const Strip* strip asm("r0") = &strip_;
  register int32_t pairs asm("r11") = pairs_;
  register int32_t at asm("r8") = strip_.offset;
  register float* out asm("r10") = strip_.out;
  asm volatile(
      "ldr lr, [r0, #12]\n lsl lr, lr, #2\n"  // step, bytes
      "1:\n"                                  // a pair of positions
      "ldr r3, [r0, #40]\n vldmia r3, {s0-s7}\n vldmia r3, {s8-s15}\n"
      "ldr r3, [r0, #32]\n ldr r6, [r0]\n ldr r9, [r0, #4]\n"
      "2:\n"  // a row of the window
      "ldr r12, [r6], #4\n ldr r5, [r0, #20]\n"
      "3:\n"  // a stretch of inputs
      "add r1, r12, r8, lsl #2\n add r2, r1, lr\n ldr r4, [r0, #28]\n"
      "subs r4, r4, #4\n blt.w 5f\n"
      "4:\n"  // 4 inputs: 72 instructions for 64 products
      "vldmia r1!, {s24-s27}\n vldmia r2!, {s28-s31}\n"
      ET_M4F_PAIR("s24", "s28") ET_M4F_PAIR("s25", "s29") ET_M4F_PAIR("s26", "s30") ET_M4F_PAIR("s27", "s31")
      "subs r4, r4, #4\n bge.w 4b\n"
      "5:\n"
      "adds r4, r4, #4\n beq.w 7f\n"
      "6:\n"  // the inputs left over
      "vldmia r1!, {s24}\n vldmia r2!, {s28}\n"
      ET_M4F_PAIR("s24", "s28")
      "subs r4, r4, #1\n bne.w 6b\n"
      "7:\n"
      "subs r5, r5, #1\n beq.w 8f\n"
      "ldr r4, [r0, #24]\n add r12, r12, r4, lsl #2\n b.w 3b\n"
      "8:\n"
      "ldr r4, [r0, #36]\n add r3, r3, r4, lsl #2\n"
      "subs r9, r9, #1\n bne.w 2b\n"
      // residual
      "ldr r6, [r0, #48]\n ldr r4, [r0, #52]\n add r12, r10, r6, lsl #2\n"
      "cmp r4, #0\n beq.w 9f\n"
      "ldr r5, [r0, #44]\n sub r5, r10, r5\n add r4, r4, r5\n add r5, r4, r6, lsl #2\n"
      "vldmia r4, {s16-s23}\n vldmia r5, {s24-s31}\n" ET_M4F_ADD_0 ET_M4F_ADD_1
      "9:\n"
      ET_M4F_STORE_0
      "mov r10, r12\n"
      ET_M4F_STORE_1
      "ldr r6, [r0, #48]\n add r10, r10, r6, lsl #2\n add r8, r8, lr, lsr #1\n"  // two steps, in elements
      "subs r11, r11, #1\n bne.w 1b\n"
      : "+r"(pairs), "+r"(at), "+r"(out)
      : "r"(strip)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r9", "r12", "lr", "cc", "memory", ET_M4F_SUMS, ET_M4F_OPERANDS);
}

// 8 channels of one position.
inline __attribute__((noinline)) void one_of_eight(const Strip& strip_, int32_t position) {
  register const Strip* strip asm("r0") = &strip_;
  register int32_t at asm("r8") = strip_.offset + position * strip_.step;
  register float* out asm("r10") = strip_.out + position * strip_.out_step;
  asm volatile(
      "ldr r3, [r0, #40]\n vldmia r3, {s0-s7}\n"
      "ldr r3, [r0, #32]\n ldr r6, [r0]\n ldr r9, [r0, #4]\n"
      "cmp r9, #0\n beq.w 9f\n"
      "2:\n"  // a row of the window
      "ldr r12, [r6], #4\n ldr r5, [r0, #20]\n"
      "3:\n"  // a stretch of inputs
      "add r1, r12, r8, lsl #2\n ldr r4, [r0, #28]\n"
      "subs r4, r4, #8\n blt.w 5f\n"
      "4:\n"  // 8 inputs: 71 instructions for 64 products
      "vldmia r1!, {s24-s31}\n"
      ET_M4F_TWO("s24", "s25") ET_M4F_TWO("s26", "s27") ET_M4F_TWO("s28", "s29") ET_M4F_TWO("s30", "s31")
      "subs r4, r4, #8\n bge.w 4b\n"
      "5:\n"
      "adds r4, r4, #4\n blt.w 6f\n"
      "vldmia r1!, {s24-s27}\n"
      ET_M4F_TWO("s24", "s25") ET_M4F_TWO("s26", "s27")
      "sub r4, r4, #4\n"
      "6:\n"
      "adds r4, r4, #4\n beq.w 8f\n"
      "7:\n"  // the inputs left over
      "vldmia r1!, {s24}\n vldmia r3!, {s8-s15}\n"
      ET_M4F_MAC_LOW("s24")
      "subs r4, r4, #1\n bne.w 7b\n"
      "8:\n"
      "subs r5, r5, #1\n ittt ne\n"
      "ldrne r4, [r0, #24]\n addne r12, r12, r4, lsl #2\n bne.w 3b\n"
      "ldr r4, [r0, #36]\n add r3, r3, r4, lsl #2\n"
      "subs r9, r9, #1\n bne.w 2b\n"
      "9:\n"
      ET_M4F_RESIDUAL_0
      ET_M4F_STORE_0
      : "+r"(at), "+r"(out)
      : "r"(strip)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r9", "r12", "cc", "memory", ET_M4F_SUMS, ET_M4F_OPERANDS);
}

// Clamps what a strip has stored, where the bounds are not those of a ReLU.
inline __attribute__((noinline)) void clamp_stored(const Strip& strip) {
  float* out = strip.out;
  for (int32_t position = 0; position < strip.positions; ++position) {
    for (int32_t c = 0; c < 8; ++c) {
      out[c] = clamped(out[c], strip.low, strip.high);
    }
    out += strip.out_step;
  }
}

// Depthwise, any window: the sums += inputs (s24-s31) * weights (s16-s23), channel by channel.
#define ET_M4F_EACH_0                                                                               \
  "vfma.f32 s0, s24, s16\n vfma.f32 s1, s25, s17\n vfma.f32 s2, s26, s18\n vfma.f32 s3, s27, s19\n" \
  "vfma.f32 s4, s28, s20\n vfma.f32 s5, s29, s21\n vfma.f32 s6, s30, s22\n vfma.f32 s7, s31, s23\n"
#define ET_M4F_EACH_1                                                                                 \
  "vfma.f32 s8, s24, s16\n vfma.f32 s9, s25, s17\n vfma.f32 s10, s26, s18\n vfma.f32 s11, s27, s19\n" \
  "vfma.f32 s12, s28, s20\n vfma.f32 s13, s29, s21\n vfma.f32 s14, s30, s22\n vfma.f32 s15, s31, s23\n"

// 8 channels of the strip, whose stretches are the taps: 23 instructions for 16 products with two positions, 13 for 8
// with one.
inline __attribute__((noinline)) void depthwise_eight(const Strip& strip_) {
  register const Strip* strip asm("r0") = &strip_;
  register int32_t at asm("r8") = strip_.offset * 4;
  register float* out asm("r10") = strip_.out;
  register int32_t positions asm("r11") = strip_.positions;
  register int32_t tap_bytes asm("r12") = strip_.tap_step * 4;
  register int32_t step_bytes asm("lr") = strip_.step * 4;
  asm volatile(
      "subs r11, r11, #2\n blt.w 6f\n"
      "2:\n"  // two positions
      "ldr r3, [r0, #40]\n vldmia r3, {s0-s7}\n vldmia r3, {s8-s15}\n"
      "ldr r3, [r0, #32]\n ldr r6, [r0]\n ldr r9, [r0, #4]\n"
      "3:\n"
      "ldr r1, [r6], #4\n add r1, r1, r8\n add r2, r1, lr\n ldr r4, [r0, #20]\n"
      "4:\n"
      "vldmia r3!, {s16-s23}\n vldmia r1, {s24-s31}\n add r1, r1, r12\n" ET_M4F_EACH_0
      "vldmia r2, {s24-s31}\n add r2, r2, r12\n" ET_M4F_EACH_1
      "subs r4, r4, #1\n bne.w 4b\n"
      "ldr r4, [r0, #36]\n add r3, r3, r4, lsl #2\n subs r9, r9, #1\n bne.w 3b\n"
      "ldr r6, [r0, #48]\n ldr r4, [r0, #52]\n cmp r4, #0\n beq.w 5f\n"
      "ldr r5, [r0, #44]\n sub r5, r10, r5\n add r4, r4, r5\n add r5, r4, r6, lsl #2\n"
      "vldmia r4, {s16-s23}\n vldmia r5, {s24-s31}\n" ET_M4F_ADD_0 ET_M4F_ADD_1 "5:\n" ET_M4F_STORE_0
      "ldr r6, [r0, #48]\n add r10, r10, r6, lsl #2\n" ET_M4F_STORE_1
      "ldr r6, [r0, #48]\n add r10, r10, r6, lsl #2\n add r8, r8, lr, lsl #1\n"
      "subs r11, r11, #2\n bge.w 2b\n"
      "6:\n"
      "adds r11, r11, #2\n beq.w 10f\n"
      // the last position
      "ldr r3, [r0, #40]\n vldmia r3, {s0-s7}\n"
      "ldr r3, [r0, #32]\n ldr r6, [r0]\n ldr r9, [r0, #4]\n"
      "7:\n"
      "ldr r1, [r6], #4\n add r1, r1, r8\n ldr r4, [r0, #20]\n cmp r4, #0\n beq.w 9f\n"
      "8:\n"
      "vldmia r3!, {s16-s23}\n vldmia r1, {s24-s31}\n add r1, r1, r12\n" ET_M4F_EACH_0
      "subs r4, r4, #1\n bne.w 8b\n"
      "9:\n"
      "ldr r4, [r0, #36]\n add r3, r3, r4, lsl #2\n subs r9, r9, #1\n bne.w 7b\n" ET_M4F_RESIDUAL_0 ET_M4F_STORE_0
      "10:\n"
      : "+r"(at), "+r"(out), "+r"(positions)
      : "r"(strip), "r"(tap_bytes), "r"(step_bytes)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r9", "cc", "memory", ET_M4F_SUMS, ET_M4F_OPERANDS);
}

struct M4f {
  static constexpr int32_t kLanes = 8;
  static constexpr int32_t kDepthwiseLanes = 8;
  static constexpr int32_t kBiasWords = 1;

  using Scope = DefaultNan;

  static void run(const Strip& strip) {
    if (strip.lanes == 4) {
      run_strip<1, 4>(strip);
      return;
    }
    const int32_t pairs = strip.kernel_rows > 0 ? strip.positions / 2 : 0;
    if (pairs > 0) {
      pairs_of_eight(strip, pairs);
    }
    for (int32_t position = 2 * pairs; position < strip.positions; ++position) {
      one_of_eight(strip, position);
    }
    clamp_rest(strip);
  }

  static void depthwise(const Strip& strip) {
    depthwise_eight(strip);
    clamp_rest(strip);
  }

 private:
  static void clamp_rest(const Strip& strip) {
    if (strip.rectify == 0 && (strip.low != -__builtin_inff() || strip.high != __builtin_inff())) {
      clamp_stored(strip);
    }
  }
};

// For short windows, as those of transposed convolutions: blocks of 4 channels are made for three positions at a time.
struct M4fShort : M4f {
  static void run(const Strip& strip) {
    if (strip.lanes == 4) {
      run_strip<3, 4>(strip);
    } else {
      M4f::run(strip);
    }
  }
};

// Depthwise 3x3: s12-s23 hold a row of the window, [3][4], s24-s27 a column of inputs, s0-s11 the sums of three
// results.
#define ET_M4F_MAC_4(a, b, c, d, w, x, y, z) \
  "vfma.f32 " a ", s24, " w "\n vfma.f32 " b ", s25, " x "\n vfma.f32 " c ", s26, " y "\n vfma.f32 " d ", s27, " z "\n"
#define ET_M4F_LOAD(row) "vldmia r4!, {s12-s23}\n vldmia " row ", {s24-s27}\n add " row ", " row ", r5\n"
// One row of a column: into the results left of it (a), in its middle (b), right of it (c).
#define ET_M4F_ROW(row, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3) \
  ET_M4F_LOAD(row)                                                      \
  ET_M4F_MAC_4(a0, a1, a2, a3, "s20", "s21", "s22", "s23")              \
  ET_M4F_MAC_4(b0, b1, b2, b3, "s16", "s17", "s18", "s19")              \
  ET_M4F_MAC_4(c0, c1, c2, c3, "s12", "s13", "s14", "s15")
// The first column has nothing to its left.
#define ET_M4F_FIRST(row)                                          \
  ET_M4F_LOAD(row)                                                 \
  ET_M4F_MAC_4("s0", "s1", "s2", "s3", "s16", "s17", "s18", "s19") \
  ET_M4F_MAC_4("s4", "s5", "s6", "s7", "s12", "s13", "s14", "s15")
#define ET_M4F_STORE_4(a, b, c, d, skip)                                                 \
  "vmov r8, r10, " a ", " b "\n vmov r12, lr, " c ", " d "\n cbz r7, " skip              \
  "f\n"                                                                                  \
  "usat r8, #31, r8\n usat r10, #31, r10\n usat r12, #31, r12\n usat lr, #31, lr\n" skip \
  ":\n"                                                                                  \
  "stmia r6, {r8, r10, r12, lr}\n add r6, r6, r5\n"
// One column, after which the left results are complete and their registers take the bias for the next ones: 58
// instructions for 36 products.
#define ET_M4F_COLUMN(skip, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3) \
  ET_M4F_ROW("r1", a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3)          \
  ET_M4F_ROW("r2", a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3)          \
  ET_M4F_ROW("r3", a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3)          \
  ET_M4F_STORE_4(a0, a1, a2, a3, skip)                                      \
  "vldmia r4, {" a0 "-" a3 "}\n sub r4, r4, #144\n subs r9, r9, #1\n"

// `blocks` times 4 channels of one output row.
inline __attribute__((noinline)) void depthwise_3x3_fours(const Depthwise3x3& shape, int32_t blocks_, float* out_,
                                                          const float* const* rows, const float* weight_) {
  register int32_t width asm("r0") = shape.width;
  register const float* top asm("r1") = rows[0];
  register const float* middle asm("r2") = rows[1];
  register const float* bottom asm("r3") = rows[2];
  register const float* weight asm("r4") = weight_;
  register int32_t column_bytes asm("r5") = shape.channels * 4;
  register float* out asm("r6") = out_;
  register int32_t rectify asm("r7") = shape.low == 0.0f ? 1 : 0;
  register int32_t blocks asm("r11") = blocks_;
  asm volatile(
      "1:\n"  // 4 channels
      "add r8, r4, #144\n vldmia r8, {s0-s3}\n vldmia r8, {s4-s7}\n vldmia r8, {s8-s11}\n"
      ET_M4F_FIRST("r1") ET_M4F_FIRST("r2") ET_M4F_FIRST("r3")
      "sub r4, r4, #144\n subs r9, r0, #1\n beq.w 5f\n"
      "2:\n"
      ET_M4F_COLUMN("11", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11")
      "beq.w 6f\n"
      ET_M4F_COLUMN("12", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s0", "s1", "s2", "s3")
      "beq.w 7f\n"
      ET_M4F_COLUMN("13", "s8", "s9", "s10", "s11", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
      "bne.w 2b\n"
      // the last result, in whichever registers it is
      "5:\n" ET_M4F_STORE_4("s0", "s1", "s2", "s3", "14") "b.w 8f\n"
      "6:\n" ET_M4F_STORE_4("s4", "s5", "s6", "s7", "15") "b.w 8f\n"
      "7:\n" ET_M4F_STORE_4("s8", "s9", "s10", "s11", "16")
      "8:\n"
      "mul r8, r0, r5\n sub r8, r8, #16\n add r4, r4, #160\n"
      "sub r1, r1, r8\n sub r2, r2, r8\n sub r3, r3, r8\n sub r6, r6, r8\n"
      "subs r11, r11, #1\n bne.w 1b\n"
      : "+r"(top), "+r"(middle), "+r"(bottom), "+r"(weight), "+r"(out), "+r"(blocks)
      : "r"(width), "r"(column_bytes), "r"(rectify)
      : "r8", "r9", "r10", "r12", "lr", "cc", "memory", ET_M4F_SUMS, ET_M4F_OPERANDS);
}

inline __attribute__((noinline)) void depthwise_3x3_row(M4f, const Depthwise3x3& shape, float* out,
                                                        const float* const* rows, const float* weight) {
  const DefaultNan scope;
  depthwise_3x3_fours(shape, shape.channels / 4, out, rows, weight);
  if (shape.high != __builtin_inff() || (shape.low != 0.0f && shape.low != -__builtin_inff())) {
    for (int32_t i = 0; i < shape.width * shape.channels; ++i) {
      out[i] = clamped(out[i], shape.low, shape.high);
    }
  }
}

}  // namespace et
