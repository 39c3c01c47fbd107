// Throws damaged frames at the firmware's receiver, by a seed: none may upset it, none may be taken that was damaged,
// and the good frame behind each is taken always. Built with sanitizers by fuzz.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/link.h"
#include "uart/uart.h"

namespace {

constexpr uint32_t kLongest = 11 + et::kReceiveChunk;  // the body of a WRITE

uint8_t sent[4096];
uint32_t sent_count;
uint64_t state;

uint32_t next() {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<uint32_t>(state * 0x2545F4914F6CDD1Du >> 32);
}

uint32_t below(uint32_t limit) { return next() % limit; }

}  // namespace

namespace et {
void uart_init() {}
void uart_put(uint8_t byte) {
  if (sent_count < sizeof(sent)) {
    sent[sent_count++] = byte;
  }
}
int32_t uart_get() { return -1; }
void uart_flush() {}
}  // namespace et

// A frame of a random kind and body, left in `sent`.
static void make(uint8_t* body, uint32_t* size) {
  static const uint32_t kSizes[] = {0, 1, 8, 12, 40, 253, 254, 255, kLongest, kLongest + 1, 300};
  *size = kSizes[below(11)];
  const bool zeros = below(4) == 0;
  for (uint32_t i = 0; i < *size; ++i) {
    body[i] = zeros ? 0 : static_cast<uint8_t>(next());
  }
  sent_count = 0;
  et::send_begin(static_cast<et::Kind>(below(256)), static_cast<uint16_t>(next()));
  et::send_bytes(body, *size);
  et::send_end();
}

static bool feed(const uint8_t* data, uint32_t count, et::Frame* frame) {
  bool taken = false;
  for (uint32_t i = 0; i < count; ++i) {
    taken |= et::link_take(data[i], frame);
  }
  return taken;
}

int main(int, char** arguments) {
  const uint64_t inputs = strtoull(arguments[1], nullptr, 10);
  state = strtoull(arguments[2], nullptr, 10) * 2 + 1;
  static uint8_t body[512], damaged[8192];
  uint64_t wrong = 0, missed = 0, damage = 0;
  for (uint64_t input = 0; input < inputs; ++input) {
    uint32_t size = 0;
    make(body, &size);
    uint32_t count = sent_count;
    memcpy(damaged, sent, count);
    switch (below(6)) {
      case 0:
        damaged[below(count)] ^= static_cast<uint8_t>(1U << below(8));
        break;
      case 1:
        count = below(count);  // cut off
        break;
      case 2: {  // a byte is lost
        const uint32_t at = below(count);
        memmove(damaged + at, damaged + at + 1, count - at - 1);
        --count;
        break;
      }
      case 3: {  // a byte is doubled
        const uint32_t at = below(count);
        memmove(damaged + at + 1, damaged + at, count - at);
        ++count;
        break;
      }
      case 4:  // noise
        count = below(700);
        for (uint32_t i = 0; i < count; ++i) {
          damaged[i] = static_cast<uint8_t>(next());
        }
        break;
      default:
        break;  // as it is
    }
    const bool is_whole = count == sent_count && memcmp(damaged, sent, count) == 0;
    damage += !is_whole;
    et::Frame frame;
    const bool taken = feed(damaged, count, &frame);
    const bool fits = size <= kLongest;
    if (is_whole) {
      missed += taken != fits;
      wrong += taken && (frame.size != size || memcmp(frame.body, body, size) != 0);
    } else if (taken && frame.size != 0 && (frame.size != size || memcmp(frame.body, body, size) != 0)) {
      ++wrong;  // what was damaged may lose a delimiter or gain one, and still be the frame; nothing else
    }
    make(body, &size);
    feed(reinterpret_cast<const uint8_t*>("\0"), 1, &frame);
    if (size <= kLongest) {
      missed += !feed(sent, sent_count, &frame) || frame.size != size || memcmp(frame.body, body, size) != 0;
    }
  }
  printf("%llu inputs, %llu damaged: %llu wrong, %llu missed\n", static_cast<unsigned long long>(inputs),
         static_cast<unsigned long long>(damage), static_cast<unsigned long long>(wrong),
         static_cast<unsigned long long>(missed));
  return wrong + missed == 0 ? 0 : 1;
}
