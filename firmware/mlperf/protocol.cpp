#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include "mlperf/protocol.h"

#include <string.h>

#include "mlperf/benchmark.h"
#include "runtime/core.h"
#include "uart/uart.h"

namespace et {
namespace mlperf {
namespace {

constexpr uint32_t kLongestCommand = 80;

struct State {
  char command[kLongestCommand + 1];
  uint32_t length;
  bool is_bad;       // longer than that, or with bytes that are no text
  uint32_t loaded;   // bytes of the input that have come
  bool is_loading;   // `db load` was given, and more are to come
  bool has_results;  // of the input that is there
};

State state;

void end_line() {
  say("\r\n");
  uart_flush();
}

void say_line(const char* text) {
  say(text);
  end_line();
}

void say_number(uint64_t value, uint32_t digits = 1) {  // with zeros before it up to so many digits
  char text[21];
  char* at = text + sizeof(text);
  *--at = 0;
  for (; value != 0 || digits != 0; value /= 10) {
    *--at = static_cast<char>('0' + value % 10);
    digits -= digits != 0;
  }
  say(at);
}

void say_hex(uint8_t byte) {
  const char* const digits = "0123456789abcdef";
  uart_put(static_cast<uint8_t>(digits[byte >> 4]));
  uart_put(static_cast<uint8_t>(digits[byte & 15]));
}

// Six digits behind the point; what Python's float() reads.
void say_real(float value) {
  if (value != value) {
    return say("nan");
  }
  if (value < 0) {
    say("-");
    value = -value;
  }
  if (value > 3.402823466e38f) {
    return say("inf");
  }
  uint32_t tens = 0;
  for (; value >= 1e9f; value /= 10) {
    ++tens;
  }
  uint32_t whole = static_cast<uint32_t>(value);
  uint32_t millionths = static_cast<uint32_t>((value - static_cast<float>(whole)) * 1e6f + 0.5f);
  if (millionths >= 1000000) {
    ++whole;
    millionths = 0;
  }
  say_number(whole);
  say(".");
  say_number(millionths, 6);
  if (tens != 0) {
    say("e");
    say_number(tens);
  }
}

void say_lap(uint64_t ticks) {
  say("m-lap-us-");
  say_number(microseconds(ticks));
  end_line();
}

void say_results() {
  if (!state.has_results) {
    return say_line("e-[No results: nothing was inferred from this input]");
  }
  say("m-results-[");
  for (uint32_t i = 0; i < result_count; ++i) {
    say(i == 0 ? "" : ",");
    say_real(result(i));
  }
  say_line("]");
}

// Cuts the next word off a command; empty at its end.
char* next_word(char** rest) {
  while (**rest == ' ') {
    ++*rest;
  }
  char* const word = *rest;
  while (**rest != ' ' && **rest != 0) {
    ++*rest;
  }
  if (**rest == ' ') {
    *(*rest)++ = 0;
  }
  return word;
}

// A number of up to nine digits; false for anything else.
bool read_number(const char* word, uint32_t* value) {
  uint32_t digits = 0;
  for (*value = 0; word[digits] >= '0' && word[digits] <= '9' && digits < 9; ++digits) {
    *value = *value * 10 + static_cast<uint32_t>(word[digits] - '0');
  }
  return digits != 0 && word[digits] == 0;
}

int32_t hex_digit(char letter) {
  if (letter >= '0' && letter <= '9') {
    return letter - '0';
  }
  const char lower = static_cast<char>(letter | 32);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

void load(char* rest) {
  uint32_t bytes;
  state.is_loading = state.has_results = false;  // also where it is refused: what is there is not this input
  state.loaded = 0;
  if (!read_number(next_word(&rest), &bytes) || bytes == 0) {
    return say_line("e-[Command 'db load' requires the # of bytes]");
  }
  if (bytes != input_bytes) {
    say("e-[An input of this model has ");
    say_number(input_bytes);
    return say_line(" bytes]");
  }
  state.is_loading = true;
  say("m-[Expecting ");
  say_number(bytes);
  say_line(" bytes]");
}

void load_digits(const char* digits) {
  if (!state.is_loading) {
    return say_line("e-[No bytes are expected: 'db load' comes first]");
  }
  const size_t count = strlen(digits);
  if (count % 2 != 0) {
    return say_line("e-[Insufficient number of hex digits]");
  }
  for (size_t i = 0; i < count; ++i) {  // all of them first: a command is taken whole or not at all
    if (hex_digit(digits[i]) < 0) {
      return say_line("e-[Invalid hex digit]");
    }
  }
  for (size_t i = 0; i < count && state.is_loading; i += 2) {  // digits behind the last byte are let go
    input[state.loaded++] = static_cast<uint8_t>(hex_digit(digits[i]) << 4 | hex_digit(digits[i + 1]));
    state.is_loading = state.loaded != input_bytes;
  }
  if (!state.is_loading) {
    say_line("m-load-done");
  }
}

void print_bytes(char* rest) {
  uint32_t count = 16;
  uint32_t offset = 0;
  const char* const first = next_word(&rest);
  const char* const second = next_word(&rest);
  if ((*first != 0 && !read_number(first, &count)) || (*second != 0 && !read_number(second, &offset))) {
    return say_line("e-[Command 'db print' takes numbers]");
  }
  for (uint32_t i = 0; i < count && offset + i < state.loaded; ++i) {
    say(i % 8 != 0 ? "-" : i == 0 ? "m-buffer-" : "\r\nm-buffer-");
    say_hex(input[offset + i]);
  }
  end_line();
}

void manage_bytes(char* rest) {
  char* const word = next_word(&rest);
  if (*word == 0) {
    say_line("e-[Command 'db' requires a subcommand]");
  } else if (strcmp(word, "load") == 0) {
    load(rest);
  } else if (strcmp(word, "print") == 0) {
    print_bytes(rest);
  } else {
    load_digits(word);
  }
}

void answer_infer(char* rest) {
  uint32_t count = 1;
  uint32_t warmups = 10;
  const char* const first = next_word(&rest);
  const char* const second = next_word(&rest);
  if (*first != 0 && (!read_number(first, &count) || count == 0)) {
    return say_line("e-[Inference iterations must be >0]");
  }
  if (*second != 0 && !read_number(second, &warmups)) {
    return say_line("e-[Inference warmup must be >=0]");
  }
  if (state.loaded != input_bytes) {
    return say_line("e-[No input: 'db load' and all its bytes come first]");
  }
  say("m-warmup-start-");
  say_number(warmups);
  end_line();
  for (uint32_t i = 0; i < warmups; ++i) {
    infer();
  }
  say_line("m-warmup-done");
  say("m-infer-start-");
  say_number(count);
  end_line();
  const uint64_t start = counter_since(0);
  say_lap(start);
  const uint64_t said = counter_since(0);  // a line takes the UART's time, which is not the network's
  for (uint32_t i = 0; i < count; ++i) {
    infer();
  }
  say_lap(start + counter_since(0) - said);
  state.has_results = true;
  say_line("m-infer-done");
  say_results();
}

void help() {
  say_line("ULPMark for tinyML Firmware V0.0.1");
  say_line("help, name, profile, timestamp, results");
  say_line("db load N, then db HH[HH]* until N bytes have come; db print [N=16] [offset=0]");
  say_line("infer N [W=10]: N inferences after W that are not timed");
}

void answer() {
  if (state.is_bad) {
    return say_line("e-[Command is too long, or no text]");
  }
  char* rest = state.command;
  const char* const word = next_word(&rest);
  if (*word == 0) {
    return;
  }
  if (strcmp(word, "name") == 0) {
    say_line("m-name-dut-[etexport]");
  } else if (strcmp(word, "profile") == 0) {
    say_line("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    say("m-model-[");
    say(model);
    say_line("]");
  } else if (strcmp(word, "timestamp") == 0) {
    say_lap(counter_since(0));
  } else if (strcmp(word, "help") == 0) {
    help();
  } else if (strcmp(word, "db") == 0) {
    manage_bytes(rest);
  } else if (strcmp(word, "infer") == 0) {
    answer_infer(rest);
  } else if (strcmp(word, "results") == 0) {
    say_results();
  } else {
    say("e-[Unknown command: ");
    say(word);
    say_line("]");
  }
}

}  // namespace

void say(const char* text) {
  while (*text != 0) {
    uart_put(static_cast<uint8_t>(*text++));
  }
}

void greet() {
  say_line("m-timestamp-mode-performance");
  say_line("m-init-done");
  say_line("m-ready");
}

void take(uint8_t byte) {
  if (byte == '%') {
    state.command[state.length] = 0;
    answer();
    state.length = 0;
    state.is_bad = false;
    return say_line("m-ready");
  }
  if (byte == '\r' || byte == '\n' || byte == 0) {
    return;  // of terminals, and of lines that were idle
  }
  if (state.length == kLongestCommand || byte < ' ' || byte > '~') {
    state.is_bad = true;
  } else {
    state.command[state.length++] = static_cast<char>(byte);
  }
}

}  // namespace mlperf
}  // namespace et
