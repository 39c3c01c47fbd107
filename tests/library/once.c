/* What once.cpp does, from C; and numbers.bin through the model's own quantize and dequantize, where its input has them. */
#include <stdio.h>

#define STRING(text) #text
#define HEADER(name) STRING(name##_c.h)
#define JOIN(a, b, c, d) a##b##c##d
#define NAME(a, b, c, d) JOIN(a, b, c, d)
#define OPEN(name) HEADER(name)
#include OPEN(NET)

#define IN(fact) NAME(NET, _input_, INPUT, fact)
#define OUT(fact) NAME(NET, _output_, OUTPUT, fact)

int main(void) {
  NAME(NET, _init, , )();
  FILE* file = fopen("input.bin", "rb");
  if (fread(IN()(), 1, IN(_bytes), file) != IN(_bytes)) {
    return 1;
  }
  fclose(file);
  NAME(NET, _run, , )();
  file = fopen("output.bin", "wb");
  fwrite(OUT()(), 1, OUT(_bytes), file);
  fclose(file);
#ifdef QUANTIZED
  file = fopen("numbers.bin", "rb");
  FILE* const stored = fopen("stored.bin", "wb");
  float pair[2];
  while (fread(pair, sizeof(float), 1, file) == 1) {
    const int8_t integer = IN(_quantize)(pair[0]);
    pair[1] = IN(_dequantize)(integer);
    fwrite(&integer, 1, 1, stored);
    fwrite(pair + 1, sizeof(float), 1, stored);
  }
  fclose(stored);
  fclose(file);
#endif
  return 0;
}
