// Pooling of int8 rows, channels last. Core: how one window is computed (window8.h, window8_dsp.h).
#pragma once

#include <stdint.h>

#include "pooling/reach.h"
#include "pooling/window8.h"

namespace et {

struct Maximum8Row {
  int32_t out_width, channels, low, high;
};

// One output row, (out_width, channels), of windows that have the first `taps` rows of the table.
template <class Core, class Across>
__attribute__((noinline)) void maximum8_row(const Maximum8Row& shape, const Across& across, int32_t taps, int8_t* out,
                                            const int8_t* const* rows) {
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const Reach reach = across.of(position);
    Core::maximum({taps, {rows}, reach.taps, across.dilation * shape.channels}, shape.channels, out,
                  reach.at * shape.channels, shape.low, shape.high);
    out += shape.channels;
  }
}

template <class Core, class Across, class Down, class G>
inline void quantized_max_pool(const G& g, int8_t* out, const int8_t* const* rows, int32_t row) {
  const Reach down = Down::down(g).of(row);
  maximum8_row<Core, Across>({g.out_width, g.channels, g.low, g.high}, Across::across(g), down.taps, out,
                             rows + down.first);
}

// Divisor 0: the number of elements that count.
struct Average8Row {
  int32_t out_width, channels, least_columns, divisor, in_zero_point, left_shift, out_zero_point, low, high;
};

// One output row, (out_width, channels), of windows that have `taps` rows of the table, of which `counted` count.
// multipliers[n - least_columns] is for those that count n columns.
template <class Core, AverageRounding kRounding, class Across>
__attribute__((noinline)) void average8_row(const Average8Row& shape, const Across& across, int32_t taps,
                                            int32_t counted, int8_t* out, const int8_t* const* rows,
                                            const int32_t* multipliers) {
  Window8<TableRows> window = {taps, {rows}, 0, shape.channels};
  Average8 how = {0, 0, shape.left_shift, shape.divisor, shape.out_zero_point, shape.low, shape.high};
  for (int32_t position = 0; position < shape.out_width; ++position) {
    const Reach reach = across.of(position);
    window.taps = reach.taps;
    how.start = -taps * reach.taps * shape.in_zero_point;
    if constexpr (kRounding != AverageRounding::kDivided) {
      how.multiplier = multipliers[reach.counted - shape.least_columns];
    }
    if (kRounding != AverageRounding::kNearest && shape.divisor == 0) {
      how.count = counted * reach.counted;
    }
    Core::template average<kRounding>(window, how, shape.channels, out, reach.at * shape.channels);
    out += shape.channels;
  }
}

// multipliers: `widths` for each number of rows that count, from least_rows on.
template <class Core, AverageRounding kRounding, class Across, class Down, class G>
inline void quantized_avg_pool(const G& g, int8_t* out, const int8_t* const* rows, int32_t row,
                               const int32_t* multipliers) {
  const Reach down = Down::down(g).of(row);
  average8_row<Core, kRounding, Across>({g.out_width, g.channels, g.least_columns, g.divisor, g.in_zero_point,
                                         g.left_shift, g.out_zero_point, g.low, g.high},
                                        Across::across(g), down.taps, down.counted, out, rows + down.first,
                                        multipliers + (down.counted - g.least_rows) * g.widths);
}

}  // namespace et
