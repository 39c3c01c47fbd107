#include <string.h>

#include "dsp/basic_math_functions.h"
#include "dsp/filtering_functions.h"

void et_cmsis_filter(float* out, const float* x, const float* taps, int32_t tap_count, float bias, int32_t count,
                     int32_t block, float* state) {
  // CMSIS-DSP has them from the last to the first, as PyTorch has; what lies before the first sample is history
  const arm_fir_instance_f32 filter = {(uint16_t)tap_count, state, taps};
  memcpy(state, x, (size_t)(tap_count - 1) * sizeof(float));
  x += tap_count - 1;
  for (int32_t at = 0; at < count; at += block) {
    const uint32_t here = (uint32_t)(count - at < block ? count - at : block);
    arm_fir_f32(&filter, x + at, out + at, here);
    if (bias != 0.0f) {
      arm_offset_f32(out + at, bias, out + at, here);
    }
  }
}
