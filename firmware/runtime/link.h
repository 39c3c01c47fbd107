// Frames over a byte stream: schema/link.md says what they mean, and a test holds the numbers below against it.
#pragma once

#include <stdint.h>

namespace et {

constexpr uint16_t kLinkVersion = 2;
constexpr uint32_t kLinkLayout = 0xBA5E9CAB;  // CRC-32 of the message table

enum Kind : uint8_t {
  kIdentify = 0x01,
  kDescribe = 0x02,
  kInput = 0x03,
  kWrite = 0x04,
  kRun = 0x05,
  kRead = 0x06,
  kContinue = 0x07,
  kExit = 0x08,
  kReset = 0x09,
  kHello = 0x81,
  kTensor = 0x82,
  kAccepted = 0x83,
  kRefused = 0x84,
  kBusy = 0x85,
  kData = 0x86,
  kDone = 0x87,
  kTrace = 0x88,
  kFault = 0x89,
  kCapture = 0x8A,
  kMethod = 0x8B,
};

enum Role : uint8_t { kRoleInput = 0, kRoleOutput = 1, kRoleProbes = 2, kRoleMethod = 3, kRoleSizes = 4 };

enum Feature : uint8_t { kFeatureProbes = 1, kFeatureTrace = 2, kFeatureResetClock = 4 };

enum Reason : uint8_t {
  kReasonRun = 1,
  kReasonIndex = 2,
  kReasonDtype = 3,
  kReasonRank = 4,
  kReasonSize = 5,
  kReasonOrder = 6,
  kReasonBounds = 7,
  kReasonCrc = 8,
  kReasonLength = 9,
  kReasonKind = 10,
  kReasonMethod = 11,
};

enum Core : uint8_t { kCoreCortexM = 1, kCoreRiscv = 2, kCoreHost = 3 };

constexpr uint32_t kReceiveChunk = 256;  // data bytes of a WRITE, at most
constexpr uint32_t kSendChunk = 512;     // data bytes of a DATA or TRACE

// A received frame; `body` is valid until the next byte is received.
struct Frame {
  uint8_t kind;
  uint16_t sequence;
  const uint8_t* body;
  uint32_t size;  // bytes of the body
};

// CRC-32 as zlib computes it, continued from `crc`.
uint32_t crc32(uint32_t crc, const void* data, uint32_t bytes);

// One byte of the stream. True when it completes a good frame; what is no frame is counted and dropped.
bool link_take(uint8_t byte, Frame* frame);
uint32_t link_bad_frames();

void link_receive(Frame* frame);  // waits for a good one

// One frame: begin, its fields in order, end.
void send_begin(Kind kind, uint16_t sequence);
void send_u8(uint8_t value);
void send_u16(uint16_t value);
void send_u32(uint32_t value);
void send_bytes(const void* data, uint32_t bytes);
void send_text(const char* text);  // at most 255 bytes of it
void send_end();

inline uint32_t read_u16(const uint8_t* p) { return static_cast<uint32_t>(p[0] | p[1] << 8); }
inline uint32_t read_u32(const uint8_t* p) { return read_u16(p) | read_u16(p + 2) << 16; }

}  // namespace et
