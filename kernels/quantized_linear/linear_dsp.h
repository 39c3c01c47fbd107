// int8 linear layers of any number of inputs on Armv7E-M with DSP instructions: the cores of
// quantized_convolution/dsp.h, with rows filled up to whole words.
#pragma once

#include <stdint.h>

#include "quantized_convolution/dsp.h"

namespace et {

// The last 1 to 3 values of a row and zeros as pairs (k0, k2), (k1, k3), the second one `odd` elements behind.
inline void expand_rest(const int8_t* x, int32_t count, int16_t* out, int32_t odd) {
  out[0] = x[0];
  out[1] = count > 2 ? x[2] : 0;
  out[odd] = count > 1 ? x[1] : 0;
  out[odd + 1] = 0;
}

// (positions, inputs) -> (positions, outputs); inputs is no multiple of 4.
template <bool kTwice>
__attribute__((noinline)) void linear8_dsp(const Store8& store, int32_t positions, int32_t inputs, int32_t outputs,
                                           int8_t* out, const int8_t* in, const int8_t* packed, int16_t* columns) {
  const int32_t rest = inputs % 4;
  const int32_t whole = inputs - rest;
  ColumnStore<kTwice> columns_to(whole + 4, outputs, store.zero_point, packed, columns);
  const Stretches all = {whole, 1, 0, 0};
  int8_t* to = out;
  for (int32_t pair = positions / 2; pair > 0; --pair) {
    const int8_t* const second = in + inputs;
    int16_t* const end = expand_two(in, second, columns, &all);
    expand_rest(in + whole, rest, end, 4);
    expand_rest(second + whole, rest, end + 2, 4);
    columns_to.two(to);
    in += 2 * inputs;
    to += 2 * outputs;
  }
  if (positions % 2 != 0) {
    int16_t* const end = whole > 0 ? expand_one(in, columns, whole) : columns;
    expand_rest(in + whole, rest, end, 2);
    columns_to.one(to);
    to += outputs;
  }
  clamp_bytes(store, out, static_cast<int32_t>(to - out));
}

template <bool kTwice, class G>
inline void quantized_linear_dsp(const G& g, int8_t* out, const int8_t* in, const int8_t* packed, int16_t* columns) {
  const Store8 store = {g.zero_point, g.low, g.high};
  linear8_dsp<kTwice>(store, g.positions, g.inputs, g.outputs, out, in, packed, columns);
}

}  // namespace et
