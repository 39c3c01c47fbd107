// Recurrent layers of floats: each step is two matrix products with the layer's packed weights, and a few functions of
// their sums. (steps, batch, features) in and out; the state lies in the output's last row, so that nothing is copied.
#pragma once

#include <stdint.h>
#include <string.h>

#include "convolution/convolution.h"
#include "et/exp.h"

namespace et {

struct RecurrentShape {
  int32_t steps, batch, inputs, hidden;
  int32_t result;  // features of a result: `hidden`, or those of a projection
  bool reverse;    // from the last step to the first
};

// Packed for pointwise_strip, of the gates one behind the other.
struct Matrix {
  const float* weight;
  const float* bias;
};

inline float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

// In a loop of its own, so that the polynomial's coefficients stay in registers.
inline __attribute__((noinline)) void logistic_all(float* x, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    x[i] = logistic(x[i]);
  }
}

// (rows, inputs) x weights + bias: (rows, outputs).
template <class Core>
inline void products(int32_t rows, int32_t inputs, int32_t outputs, float* out, const float* x, const float* weight,
                     const float* bias) {
  pointwise_strip<Core>(rows, inputs, outputs, -__builtin_inff(), __builtin_inff(), out, x, weight, bias, nullptr);
}

inline void copy_floats(float* to, const float* from, int32_t count) {
  memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

inline int32_t step_at(const RecurrentShape& shape, int32_t step) {
  return shape.reverse ? shape.steps - 1 - step : step;
}

// (batch, inputs + result): of each sequence of the batch its input at this step and its state behind each other, so
// that one product does for both.
inline void gather(const RecurrentShape& shape, float* both, const float* x, const float* state) {
  for (int32_t row = 0; row < shape.batch; ++row) {
    copy_floats(both, x, shape.inputs);
    copy_floats(both + shape.inputs, state, shape.result);
    both += shape.inputs + shape.result;
    x += shape.inputs;
    state += shape.result;
  }
}

// One product a step, of input and state behind each other: aside is (batch, inputs + result) of these, (batch, 4,
// hidden) of the gates for input, forget, cell and output, then (batch, hidden) where there is a projection, then the
// same where nobody reads the cells (`cell` null).
template <class Core>
__attribute__((noinline)) void lstm_all(const RecurrentShape& shape, float* out, float* cell, const float* x,
                                        const float* state, const float* cell_before, const float* weight,
                                        const float* bias, const float* projection, const float* no_bias,
                                        float* aside) {
  const int32_t batch = shape.batch;
  const int32_t hidden = shape.hidden;
  const int32_t both = shape.inputs + shape.result;
  float* const gates = aside + batch * both;
  float* const behind = gates + 4 * batch * hidden;
  cell = cell != nullptr ? cell : projection == nullptr ? behind : behind + batch * hidden;
  copy_floats(cell, cell_before, batch * hidden);
  for (int32_t step = 0; step < shape.steps; ++step) {
    const int32_t at = step_at(shape, step);
    float* const now = out + at * batch * shape.result;
    float* const given = projection == nullptr ? now : behind;
    gather(shape, aside, x + at * batch * shape.inputs, state);
    products<Core>(batch, both, 4 * hidden, gates, aside, weight, bias);
    for (int32_t row = 0; row < batch; ++row) {
      float* const gate = gates + 4 * row * hidden;
      float* const kept = cell + row * hidden;
      float* const given_row = given + row * hidden;
      logistic_all(gate, 2 * hidden);
      logistic_all(gate + 3 * hidden, hidden);
      for (int32_t unit = 0; unit < hidden; ++unit) {
        kept[unit] = gate[hidden + unit] * kept[unit] + gate[unit] * hyperbolic_tangent(gate[2 * hidden + unit]);
        given_row[unit] = gate[3 * hidden + unit] * hyperbolic_tangent(kept[unit]);
      }
    }
    if (projection != nullptr) {
      products<Core>(batch, hidden, shape.result, now, given, projection, no_bias);
    }
    state = now;
  }
}

// Of a GRU's new gate the state's part is apart. aside: (batch, inputs + hidden) of input and state, (batch, 2, hidden)
// of the gates for reset and update, (batch, hidden) of the new one by the input, and the same by the state.
template <class Core>
__attribute__((noinline)) void gru_all(const RecurrentShape& shape, float* out, const float* x, const float* state,
                                       const Matrix& gate, const Matrix& fresh, const Matrix& own, float* aside) {
  const int32_t batch = shape.batch;
  const int32_t hidden = shape.hidden;
  float* const gates = aside + batch * (shape.inputs + hidden);
  float* const new_in = gates + 2 * batch * hidden;
  float* const new_own = new_in + batch * hidden;
  for (int32_t step = 0; step < shape.steps; ++step) {
    const int32_t at = step_at(shape, step);
    float* const now = out + at * batch * hidden;
    const float* const in = x + at * batch * shape.inputs;
    gather(shape, aside, in, state);
    products<Core>(batch, shape.inputs + hidden, 2 * hidden, gates, aside, gate.weight, gate.bias);
    products<Core>(batch, shape.inputs, hidden, new_in, in, fresh.weight, fresh.bias);
    products<Core>(batch, hidden, hidden, new_own, state, own.weight, own.bias);
    logistic_all(gates, 2 * batch * hidden);
    for (int32_t row = 0; row < batch; ++row) {
      const float* const reset = gates + 2 * row * hidden;
      const float* const update = reset + hidden;
      for (int32_t unit = 0; unit < hidden; ++unit) {
        const int32_t place = row * hidden + unit;
        const float value = hyperbolic_tangent(new_in[place] + reset[unit] * new_own[place]);
        now[place] = (1.0f - update[unit]) * value + update[unit] * state[place];
      }
    }
    state = now;
  }
}

// aside: (batch, inputs + hidden) of input and state.
template <class Core>
__attribute__((noinline)) void rnn_all(const RecurrentShape& shape, bool rectify, float* out, const float* x,
                                       const float* state, const Matrix& gate, float* aside) {
  const int32_t row = shape.batch * shape.hidden;
  for (int32_t step = 0; step < shape.steps; ++step) {
    const int32_t at = step_at(shape, step);
    float* const now = out + at * row;
    gather(shape, aside, x + at * shape.batch * shape.inputs, state);
    products<Core>(shape.batch, shape.inputs + shape.hidden, shape.hidden, now, aside, gate.weight, gate.bias);
    for (int32_t unit = 0; unit < row; ++unit) {
      now[unit] = rectify ? (now[unit] < 0.0f ? 0.0f : now[unit]) : hyperbolic_tangent(now[unit]);
    }
    state = now;
  }
}

template <class G>
inline RecurrentShape recurrent_shape(const G& g) {
  return {g.steps, g.batch, g.inputs, g.hidden, g.result, g.reverse};
}

template <class Core, class G>
inline void lstm(const G& g, float* out, float* cell, const float* x, const float* state, const float* cell_before,
                 const float* weight, const float* bias, const float* projection, const float* no_bias, float* aside) {
  lstm_all<Core>(recurrent_shape(g), out, cell, x, state, cell_before, weight, bias, projection, no_bias, aside);
}

template <class Core, class G>
inline void gru(const G& g, float* out, const float* x, const float* state, const float* gate, const float* gate_bias,
                const float* fresh, const float* fresh_bias, const float* own, const float* own_bias, float* aside) {
  gru_all<Core>(recurrent_shape(g), out, x, state, {gate, gate_bias}, {fresh, fresh_bias}, {own, own_bias}, aside);
}

template <class Core, class G>
inline void rnn(const G& g, float* out, const float* x, const float* state, const float* weight, const float* bias,
                float* aside) {
  rnn_all<Core>(recurrent_shape(g), g.rectify, out, x, state, {weight, bias}, aside);
}

}  // namespace et
