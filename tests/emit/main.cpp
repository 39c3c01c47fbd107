// A user's own firmware: floats from standard input, two runs, outputs to standard output. No runtime of ours.
#include <stdio.h>

#include "program.h"

int main() {
  toy::init();
  for (int round = 0; round < 2; ++round) {
    toy::init();
    if (fread(toy::inputs::image(), sizeof(float), toy::inputs::image_elements, stdin) != toy::inputs::image_elements) return 1;
    toy::run();
    fwrite(toy::outputs::logits(), sizeof(float), toy::outputs::logits_elements, stdout);
    fwrite(toy::outputs::memory(), sizeof(float), toy::outputs::memory_elements, stdout);
    fwrite(toy::outputs::same_taps(), sizeof(float), toy::outputs::same_taps_elements, stdout);
  }
  return 0;
}
