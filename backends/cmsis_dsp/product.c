#include "dsp/basic_math_functions.h"
#include "dsp/matrix_functions.h"

void et_cmsis_product(float* out, const float* left, const float* right, const float* bias, int32_t rows, int32_t inner,
                      int32_t columns) {
  const arm_matrix_instance_f32 a = {(uint16_t)rows, (uint16_t)inner, (float*)left};
  const arm_matrix_instance_f32 b = {(uint16_t)inner, (uint16_t)columns, (float*)right};
  arm_matrix_instance_f32 result = {(uint16_t)rows, (uint16_t)columns, out};
  arm_mat_mult_f32(&a, &b, &result);
  for (int32_t row = 0; bias != 0 && row < rows; ++row) {
    arm_add_f32(out + row * columns, bias, out + row * columns, (uint32_t)columns);
  }
}
