// Between float and int8 on Armv7E-M with FPU: the results of quantize.h. Instructions a value: to int8 6.25, to
// float 4.5.
#pragma once

#include <stdint.h>

#include "et/dsp.h"
#include "et/strided.h"
#include "quantize/quantize.h"

namespace et {

// VCVTR rounds as the FPU's mode says, gives 0 for NaN, and saturates; of NaN and of what is too large for 32 bits it
// leaves a flag behind.
constexpr uint32_t kInvalid = 1;
constexpr uint32_t kRoundingMode = 3u << 22;

inline uint32_t fpu_state() {
  uint32_t state;
  asm volatile("vmrs %0, fpscr" : "=r"(state));
  return state;
}

inline void set_fpu_state(uint32_t state) { asm volatile("vmsr fpscr, %0" : : "r"(state) : "memory"); }

// n values in a row, rounded before they are clamped: the same, for the bounds are integers. False where one was NaN or
// too large for 32 bits, which the caller makes again.
inline __attribute__((noinline)) bool quantize_row(int8_t* out, const float* x, int32_t n, float inverse,
                                                   int32_t zero_point) {
  const uint32_t before = fpu_state();
  set_fpu_state(before & ~(kRoundingMode | kInvalid));
  int32_t a;
  int32_t b;
  for (int32_t quads = n >> 2; quads > 0; --quads) {
    asm volatile(
        "vldm %[x]!, {s12-s15}\n"
        "vmul.f32 s12, s12, %[inverse]\n vmul.f32 s13, s13, %[inverse]\n"
        "vmul.f32 s14, s14, %[inverse]\n vmul.f32 s15, s15, %[inverse]\n"
        "vcvtr.s32.f32 s12, s12\n vcvtr.s32.f32 s13, s13\n vcvtr.s32.f32 s14, s14\n vcvtr.s32.f32 s15, s15\n"
        "vmov %[a], %[b], s12, s13\n"
        "qadd %[a], %[a], %[zero]\n qadd %[b], %[b], %[zero]\n ssat %[a], #8, %[a]\n ssat %[b], #8, %[b]\n"
        "strb %[a], [%[out]], #1\n strb %[b], [%[out]], #1\n"
        "vmov %[a], %[b], s14, s15\n"
        "qadd %[a], %[a], %[zero]\n qadd %[b], %[b], %[zero]\n ssat %[a], #8, %[a]\n ssat %[b], #8, %[b]\n"
        "strb %[a], [%[out]], #1\n strb %[b], [%[out]], #1\n"
        : [x] "+r"(x), [out] "+r"(out), [a] "=&r"(a), [b] "=&r"(b)
        : [inverse] "t"(inverse), [zero] "r"(zero_point)
        : "s12", "s13", "s14", "s15", "memory");
  }
  for (n &= 3; n > 0; --n) {
    asm volatile(
        "vldm %[x]!, {s12}\n vmul.f32 s12, s12, %[inverse]\n vcvtr.s32.f32 s12, s12\n vmov %[a], s12\n"
        "qadd %[a], %[a], %[zero]\n ssat %[a], #8, %[a]\n strb %[a], [%[out]], #1\n"
        : [x] "+r"(x), [out] "+r"(out), [a] "=&r"(a)
        : [inverse] "t"(inverse), [zero] "r"(zero_point)
        : "s12", "memory");
  }
  const uint32_t after = fpu_state();
  set_fpu_state(before);
  return (after & kInvalid) == 0;
}

// As quantize, to all of int8.
template <class G>
inline void quantize_m4f(const G& g, int8_t* out, const float* self) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const auto row = [&](int32_t to, int32_t from) {
    if (g.out_strides[kInner] != 1 || g.self_strides[kInner] != 1 ||
        !quantize_row(out + to, self + from, n, g.inverse, g.zero_point)) {
      for (int32_t i = 0; i < n; ++i) {
        out[to + i * g.out_strides[kInner]] =
            quantized<int8_t>(self[from + i * g.self_strides[kInner]], g.inverse, g.zero_point, g.low, g.high);
      }
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

inline __attribute__((noinline)) void dequantize_row(float* out, const int8_t* x, int32_t n, float scale,
                                                     int32_t zero_point) {
  const uint32_t below = two_of(-zero_point);
  for (int32_t quads = n >> 2; quads > 0; --quads) {
    const uint32_t four = load4(x);
    const uint32_t even = add_even_bytes(below, four);
    const uint32_t odd = add_odd_bytes(below, four);
    asm volatile(
        "vmov s12, s13, %[even], %[odd]\n vmov s14, s15, %[even2], %[odd2]\n"
        // integers of 16 bits: the lower halves
        "vcvt.f32.s16 s12, s12, #0\n vcvt.f32.s16 s13, s13, #0\n"
        "vcvt.f32.s16 s14, s14, #0\n vcvt.f32.s16 s15, s15, #0\n"
        "vmul.f32 s12, s12, %[scale]\n vmul.f32 s13, s13, %[scale]\n"
        "vmul.f32 s14, s14, %[scale]\n vmul.f32 s15, s15, %[scale]\n"
        "vstm %[out]!, {s12-s15}\n"
        : [out] "+r"(out)
        : [even] "r"(even), [odd] "r"(odd), [even2] "r"(even >> 16), [odd2] "r"(odd >> 16), [scale] "t"(scale)
        : "s12", "s13", "s14", "s15", "memory");
    x += 4;
  }
  for (n &= 3; n > 0; --n) {
    *out++ = static_cast<float>(*x++ - zero_point) * scale;
  }
}

// As dequantize, of int8.
template <class G>
inline void dequantize_m4f(const G& g, float* out, const int8_t* self) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const auto row = [&](int32_t to, int32_t from) {
    if (g.out_strides[kInner] == 1 && g.self_strides[kInner] == 1) {
      dequantize_row(out + to, self + from, n, g.scale, g.zero_point);
    } else {
      for (int32_t i = 0; i < n; ++i) {
        const int32_t stored = self[from + i * g.self_strides[kInner]];
        out[to + i * g.out_strides[kInner]] = static_cast<float>(stored - g.zero_point) * g.scale;
      }
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides});
}

}  // namespace et
