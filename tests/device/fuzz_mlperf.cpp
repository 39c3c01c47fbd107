// Throws words, broken words and noise at the parser of MLPerf Tiny's protocol, by a seed. Whatever comes: each % is
// answered by lines and one m-ready behind them, nothing is inferred from an input that is not whole, and the
// conversation behind it goes as always. Built with sanitizers by fuzz.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlperf/benchmark.h"
#include "mlperf/protocol.h"
#include "runtime/core.h"
#include "uart/uart.h"

namespace {

char said[1 << 16];
uint32_t said_count;
uint64_t state, wrong, inferences;

uint32_t below(uint32_t limit) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<uint32_t>(state * 0x2545F4914F6CDD1Du >> 32) % limit;
}

}  // namespace

namespace et {
void uart_init() {}
void uart_put(uint8_t byte) {
  if (said_count < sizeof(said) - 1) {
    said[said_count++] = static_cast<char>(byte);
  }
}
int32_t uart_get() { return -1; }
void uart_flush() {}
uint64_t counter_since(uint64_t) { return 5; }

namespace mlperf {
const char model[] = "toy01";
uint8_t input[5];  // no power of two, and not what fits a command
const uint32_t input_bytes = 5;
const uint32_t result_count = 3;
void infer() { ++inferences; }
float result(uint32_t index) { return index == 0 ? -0.5f : index == 1 ? 1.0f / 3 : 2e10f; }
uint64_t microseconds(uint64_t ticks) { return ticks * 10; }
}  // namespace mlperf
}  // namespace et

static const char* hear(const char* bytes, size_t count) {
  said_count = 0;
  for (size_t i = 0; i < count; ++i) {
    et::mlperf::take(static_cast<uint8_t>(bytes[i]));
  }
  said[said_count] = 0;
  return said;
}

static bool answers(const char* command, const char* answer) {
  const bool same = strcmp(hear(command, strlen(command)), answer) == 0;
  if (!same) {
    printf("%s gave\n%s", command, said);
  }
  return same;
}

// Every line is text and ends as lines do; as many are m-ready as there were %, and the last one is.
static bool is_well_formed(uint32_t commands) {
  uint32_t ready = 0;
  const char* last = "m-ready";
  for (const char* line = said; *line != 0;) {
    const char* const end = strstr(line, "\r\n");
    if (end == nullptr) {
      return false;
    }
    for (const char* at = line; at < end; ++at) {
      if (*at < ' ' || *at > '~') {
        return false;
      }
    }
    ready += end - line == 7 && memcmp(line, "m-ready", 7) == 0;
    last = line;
    line = end + 2;
  }
  return ready == commands && (commands == 0 || memcmp(last, "m-ready", 7) == 0);
}

int main(int, char** arguments) {
  const uint64_t inputs = strtoull(arguments[1], nullptr, 10);
  state = strtoull(arguments[2], nullptr, 10) * 2 + 1;
  static const char* const kWords[] = {"name",
                                       "profile",
                                       "timestamp",
                                       "help",
                                       "results",
                                       "db",
                                       "db load",
                                       "db print",
                                       "load",
                                       "print",
                                       "infer",
                                       "5",
                                       "6",
                                       "0",
                                       "1",
                                       "-1",
                                       "4294967297",
                                       "99999999999999999999",
                                       "2x",
                                       "0a",
                                       "0g",
                                       "0102030405",
                                       "01020304050607",
                                       "abc",
                                       "infer 1 0",
                                       "db load 5",
                                       "db 01",
                                       "db 0203040506",
                                       "db load 5%db 01020304050607",
                                       "m-ready",
                                       "",
                                       "nam",
                                       "names",
                                       "DB"};

  for (uint64_t number = 0; number < inputs; ++number) {
    char text[512];
    size_t count = 0;
    for (uint32_t words = below(8); words != 0; --words) {
      const char* const word = kWords[below(sizeof(kWords) / sizeof(kWords[0]))];
      memcpy(text + count, word, strlen(word));
      count += strlen(word);
      text[count++] = "% % \n"[below(5)];
    }
    switch (below(6)) {
      case 0:
        if (count != 0) {
          text[below(static_cast<uint32_t>(count))] = static_cast<char>(below(256));
        }
        break;
      case 1:
        count = below(static_cast<uint32_t>(count) + 1);
        break;
      case 2:  // overlong
        for (uint32_t more = below(200); more != 0; --more) {
          text[count++] = static_cast<char>('a' + below(6));
        }
        break;
      case 3:
        for (uint32_t more = below(60); more != 0; --more) {
          text[count++] = static_cast<char>(128 + below(128));
        }
        break;
      default:
        break;
    }

    uint32_t commands = 0;
    for (size_t i = 0; i < count; ++i) {
      commands += text[i] == '%';
    }
    hear(text, count);
    wrong += !is_well_formed(commands);
    hear("%", 1);
    // What is not whole is not inferred from, and no results are left of what was before.
    const uint64_t before = inferences;
    wrong +=
        !answers("db load 4294967301%", "e-[Command 'db load' requires the # of bytes]\r\nm-ready\r\n");  // 2^32 + 5
    wrong += !answers("db load 5%", "m-[Expecting 5 bytes]\r\nm-ready\r\n");
    wrong += !answers("results%", "e-[No results: nothing was inferred from this input]\r\nm-ready\r\n");
    wrong += !answers("db 01Ff%", "m-ready\r\n");
    wrong += !answers("infer 2 1%", "e-[No input: 'db load' and all its bytes come first]\r\nm-ready\r\n");
    wrong += inferences != before;
    wrong += !answers("db 030405%", "m-load-done\r\nm-ready\r\n");
    wrong += !answers(
        "infer 2 1%",
        "m-warmup-start-1\r\nm-warmup-done\r\nm-infer-start-2\r\nm-lap-us-50\r\nm-lap-us-50\r\nm-infer-done\r\n"
        "m-results-[-0.500000,0.333333,200000000.000000e2]\r\nm-ready\r\n");
    wrong += inferences != before + 3 || memcmp(et::mlperf::input, "\x01\xff\x03\x04\x05", 5) != 0;
  }
  printf("%llu inputs: %llu wrong\n", static_cast<unsigned long long>(inputs), static_cast<unsigned long long>(wrong));
  return wrong == 0 ? 0 : 1;
}
