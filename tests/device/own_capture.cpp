// A program of one's own round the linear example: eight runs, and what went in and came out on standard output.
#include <stdio.h>

#include "et/capture.h"
#include "program.h"

int main() {
  const auto put = [](uint8_t byte) { putchar(byte); };
  printf("ready\n");
  linear::init();
  for (uint32_t run = 1; run <= 8; ++run) {
    float* const x = linear::inputs::x();
    for (uint32_t i = 0; i < 16; ++i) {
      x[i] = static_cast<float>(i * run) * 0.125f - 1.0f;
    }
    et::capture(linear::Inputs(), run, put);
    linear::run();
    et::capture(linear::Outputs(), run, put);
  }
  return 0;
}
