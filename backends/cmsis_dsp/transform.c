#include "dsp/basic_math_functions.h"
#include "dsp/transform_functions.h"

void et_cmsis_transform(float* out, const float* x, const float* window, const float* inner, const float* outer,
                        const int16_t* swaps, int32_t swap_count, int32_t length, int32_t hop, int32_t frames,
                        int32_t bin_step, int32_t frame_step, float* scratch) {
  const arm_rfft_fast_instance_f32 plan = {
      {(uint16_t)(length / 2), inner, (const uint16_t*)swaps, (uint16_t)swap_count}, (uint16_t)length, outer};
  float* frame = scratch;
  float* bins = scratch + length;  // the real parts of the first and the last, which have no others, then pairs
  const int32_t half = length / 2;
  for (int32_t at = 0; at < frames; ++at) {
    arm_mult_f32(x + at * hop, window, frame, (uint32_t)length);
    arm_rfft_fast_f32(&plan, frame, bins, 0);
    float* real = out + at * frame_step;
    float* imaginary = real + (half + 1) * bin_step;
    real[0] = bins[0];
    real[half * bin_step] = bins[1];
    imaginary[0] = imaginary[half * bin_step] = 0.0f;
    for (int32_t bin = 1; bin < half; ++bin) {
      real[bin * bin_step] = bins[2 * bin];
      imaginary[bin * bin_step] = bins[2 * bin + 1];
    }
  }
}
