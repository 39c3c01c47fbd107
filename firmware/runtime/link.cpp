#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include "runtime/link.h"

#include "uart/uart.h"

namespace et {
namespace {

constexpr uint32_t kHeadBytes = 3;  // kind, sequence
constexpr uint32_t kCrcBytes = 4;
constexpr uint32_t kWriteHeadBytes = 11;
constexpr uint32_t kLongestFrame = kHeadBytes + kWriteHeadBytes + kReceiveChunk + kCrcBytes;
constexpr uint32_t kLongestBlock = 254;  // bytes without a zero that one COBS code covers

// Frames of these kinds are understood by every version (schema/link.md).
uint32_t crc_start(uint8_t kind) { return kind == kIdentify || kind == kHello ? 0 : kLinkLayout; }

struct Receiver {
  uint8_t frame[kLongestFrame];
  bool zero;       // the block under way ends with a zero, unless the frame ends first
  bool any;        // something came since the last delimiter
  bool overflow;   // more came than a frame holds
  uint32_t count;  // bytes in `frame`
  uint32_t left;   // bytes until the next COBS code
  uint32_t bad_frames;
};

struct Sender {
  uint8_t block[kLongestBlock];
  uint32_t count;
  uint32_t crc;
};

Receiver receiver;
Sender sender;

void keep(uint8_t byte) {
  if (receiver.count == kLongestFrame) {
    receiver.overflow = true;
  } else {
    receiver.frame[receiver.count++] = byte;
  }
}

// What lies between two delimiters is a frame if it is whole and its CRC is right.
bool complete(Frame* frame) {
  const uint8_t* const bytes = receiver.frame;
  if (receiver.overflow || receiver.left != 0 || receiver.count < kHeadBytes + kCrcBytes) {
    return false;
  }
  const uint32_t covered = receiver.count - kCrcBytes;
  if (crc32(crc_start(bytes[0]), bytes, covered) != read_u32(bytes + covered)) {
    return false;
  }
  *frame = Frame{bytes[0], static_cast<uint16_t>(read_u16(bytes + 1)), bytes + kHeadBytes, covered - kHeadBytes};
  return true;
}

void send_block() {
  uart_put(static_cast<uint8_t>(sender.count + 1));
  for (uint32_t i = 0; i < sender.count; ++i) {
    uart_put(sender.block[i]);
  }
  sender.count = 0;
}

void encode(uint8_t byte) {
  if (byte == 0) {
    send_block();
    return;
  }
  sender.block[sender.count++] = byte;
  if (sender.count == kLongestBlock) {
    send_block();
  }
}

}  // namespace

// It reads the whole image, which a sanitizer has filled with gaps that nobody may read.
__attribute__((no_sanitize("address"))) uint32_t crc32(uint32_t crc, const void* data, uint32_t bytes) {
  static const uint32_t kTable[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                      0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                      0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
  const uint8_t* p = static_cast<const uint8_t*>(data);
  crc = ~crc;
  for (uint32_t i = 0; i < bytes; ++i) {
    crc ^= p[i];
    crc = kTable[crc & 15] ^ crc >> 4;
    crc = kTable[crc & 15] ^ crc >> 4;
  }
  return ~crc;
}

bool link_take(uint8_t byte, Frame* frame) {
  if (byte == 0) {
    const bool good = receiver.any && complete(frame);
    receiver.bad_frames += receiver.any && !good;
    receiver.count = 0;
    receiver.left = 0;
    receiver.zero = receiver.any = receiver.overflow = false;
    return good;
  }
  receiver.any = true;
  if (receiver.left != 0) {
    keep(byte);
    --receiver.left;
    return false;
  }
  if (receiver.zero) {
    keep(0);
  }
  receiver.left = byte - 1U;
  receiver.zero = byte != kLongestBlock + 1;
  return false;
}

uint32_t link_bad_frames() { return receiver.bad_frames; }

void link_receive(Frame* frame) {
  for (;;) {
    const int32_t byte = uart_get();
    if (byte >= 0 && link_take(static_cast<uint8_t>(byte), frame)) {
      return;
    }
  }
}

void send_begin(Kind kind, uint16_t sequence) {
  uart_put(0);  // whatever was said before ends here
  sender.count = 0;
  sender.crc = crc_start(kind);
  send_u8(kind);
  send_u16(sequence);
}

void send_bytes(const void* data, uint32_t bytes) {
  const uint8_t* const p = static_cast<const uint8_t*>(data);
  sender.crc = crc32(sender.crc, data, bytes);
  for (uint32_t i = 0; i < bytes; ++i) {
    encode(p[i]);
  }
}

void send_u8(uint8_t value) { send_bytes(&value, 1); }

// Every core that there is stores its integers little-endian, as the link does.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the link sends integers as they lie in memory");
void send_u16(uint16_t value) { send_bytes(&value, 2); }
void send_u32(uint32_t value) { send_bytes(&value, 4); }

void send_text(const char* text) {
  uint8_t length = 0;
  while (length < 255 && text[length] != 0) {
    ++length;
  }
  send_u8(length);
  send_bytes(text, length);
}

void send_end() {
  send_u32(sender.crc);
  send_block();
  uart_put(0);
  uart_flush();
}

}  // namespace et
