// Comparison, logic and selection of tensors that repeat where they are smaller. Results of comparison and logic are
// bool, those of logic bit by bit have the type of the operands.
#pragma once

#include <stdint.h>

#include "et/arithmetic.h"
#include "et/strided.h"

namespace et {

// out[...] = f(self[...], other[...]). G: sizes, out_strides, self_strides, other_strides (0 where an operand repeats).
template <class G, class Out, class A, class B, class F>
inline __attribute__((always_inline)) void pair(const G& g, Out* out, const A* self, const B* other, const F& f) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const int32_t other_step = g.other_strides[kInner];
  const auto row = [&](int32_t to, int32_t left, int32_t right) {
    for (int32_t i = 0; i < n; ++i) {
      out[to + i * out_step] = f(self[left + i * self_step], other[right + i * other_step]);
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.self_strides}, Cursor{0, g.other_strides});
}

// A type that both operands are compared in, as PyTorch compares an integer with a float.
template <class A, class B>
using Common = decltype(A{} + B{});

template <class G, class A, class B>
void eq(const G& g, bool* out, const A* self, const B* other) {
  using C = Common<A, B>;
  pair(g, out, self, other, [](A a, B b) { return static_cast<C>(a) == static_cast<C>(b); });
}

template <class G, class A, class B>
void ne(const G& g, bool* out, const A* self, const B* other) {
  using C = Common<A, B>;
  pair(g, out, self, other, [](A a, B b) { return static_cast<C>(a) != static_cast<C>(b); });
}

template <class G, class A, class B>
void lt(const G& g, bool* out, const A* self, const B* other) {
  using C = Common<A, B>;
  pair(g, out, self, other, [](A a, B b) { return static_cast<C>(a) < static_cast<C>(b); });
}

template <class G, class A, class B>
void le(const G& g, bool* out, const A* self, const B* other) {
  using C = Common<A, B>;
  pair(g, out, self, other, [](A a, B b) { return static_cast<C>(a) <= static_cast<C>(b); });
}

template <class G, class A, class B>
void gt(const G& g, bool* out, const A* self, const B* other) {
  using C = Common<A, B>;
  pair(g, out, self, other, [](A a, B b) { return static_cast<C>(a) > static_cast<C>(b); });
}

template <class G, class A, class B>
void ge(const G& g, bool* out, const A* self, const B* other) {
  using C = Common<A, B>;
  pair(g, out, self, other, [](A a, B b) { return static_cast<C>(a) >= static_cast<C>(b); });
}

// Of anything: what is not 0 is true, a NaN too.
template <class G, class A, class B>
void logical_and(const G& g, bool* out, const A* self, const B* other) {
  pair(g, out, self, other, [](A a, B b) { return a != A{} && b != B{}; });
}

template <class G, class A, class B>
void logical_or(const G& g, bool* out, const A* self, const B* other) {
  pair(g, out, self, other, [](A a, B b) { return a != A{} || b != B{}; });
}

template <class G, class A, class B>
void logical_xor(const G& g, bool* out, const A* self, const B* other) {
  pair(g, out, self, other, [](A a, B b) { return (a != A{}) != (b != B{}); });
}

template <class G, class A>
void logical_not(const G& g, bool* out, const A* self) {
  map(g, out, self, [](A a) { return a == A{}; });
}

template <class G, class T>
void bitwise_and(const G& g, T* out, const T* self, const T* other) {
  pair(g, out, self, other, [](T a, T b) { return static_cast<T>(a & b); });
}

template <class G, class T>
void bitwise_or(const G& g, T* out, const T* self, const T* other) {
  pair(g, out, self, other, [](T a, T b) { return static_cast<T>(a | b); });
}

template <class G, class T>
void bitwise_xor(const G& g, T* out, const T* self, const T* other) {
  pair(g, out, self, other, [](T a, T b) { return static_cast<T>(a ^ b); });
}

template <class G>
void bitwise_not(const G& g, bool* out, const bool* self) {
  map(g, out, self, [](bool a) { return !a; });
}

template <class G, class T>
void bitwise_not(const G& g, T* out, const T* self) {
  map(g, out, self, [](T a) { return static_cast<T>(~a); });
}

template <class G, class T>
void mark_nan(const G& g, bool* out, const T* self) {
  map(g, out, self, [](T a) { return is_nan(a); });
}

template <class T>
inline bool is_infinite(T) {
  return false;  // whole numbers
}

inline bool is_infinite(float a) { return a == __builtin_inff() || a == -__builtin_inff(); }

inline bool is_infinite(double a) { return a == __builtin_inf() || a == -__builtin_inf(); }

template <class G, class T>
void mark_infinite(const G& g, bool* out, const T* self) {
  map(g, out, self, [](T a) { return is_infinite(a); });
}

// G: also condition_strides.
template <class G, class Out, class A, class B>
void where(const G& g, Out* out, const bool* condition, const A* self, const B* other) {
  constexpr int32_t kInner = extent_of<decltype(G::sizes)> - 1;
  const int32_t n = g.sizes[kInner];
  const int32_t out_step = g.out_strides[kInner];
  const int32_t step = g.condition_strides[kInner];
  const int32_t self_step = g.self_strides[kInner];
  const int32_t other_step = g.other_strides[kInner];
  const auto row = [&](int32_t to, int32_t at, int32_t left, int32_t right) {
    for (int32_t i = 0; i < n; ++i) {
      // out may be the memory of either: both are read before it is written
      const Out yes = static_cast<Out>(self[left + i * self_step]);
      const Out no = static_cast<Out>(other[right + i * other_step]);
      out[to + i * out_step] = condition[at + i * step] ? yes : no;
    }
  };
  each<kInner>(g.sizes, row, Cursor{0, g.out_strides}, Cursor{0, g.condition_strides}, Cursor{0, g.self_strides},
               Cursor{0, g.other_strides});
}

}  // namespace et
