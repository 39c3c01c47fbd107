// One sample through the model NET: INPUT, of INPUTS elements, from input.bin, OUTPUT to output.bin.
#include <stdio.h>

#define STRING(text) #text
#define HEADER(name) STRING(name.h)
#include HEADER(NET)

int main() {
  NET::init();
  FILE* file = fopen("input.bin", "rb");
  if (fread(NET::inputs::INPUT(), sizeof(*NET::inputs::INPUT()), INPUTS, file) == 0) {
    return 1;
  }
  fclose(file);
  NET::run();
  file = fopen("output.bin", "wb");
  fwrite(NET::outputs::OUTPUT(), sizeof(*NET::outputs::OUTPUT()), OUTPUTS, file);
  return fclose(file);
}
