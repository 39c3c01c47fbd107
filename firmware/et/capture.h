// A firmware of one's own says what went into its model and what came out; `etexport capture --listen` writes it down
// and compares it with PyTorch. Nothing of the bundled runtime is needed, only a function that sends a byte:
//
//   #include "et/capture.h"
//   #include "program.h"
//
//   et::capture(digits::Inputs(), number, put);   // before run(): inputs share memory with intermediate results
//   digits::run();
//   et::capture(digits::Outputs(), number, put);  // `number` goes up by one a run, so that lost ones are noticed
//
// Frames as schema/link.md has them (CAPTURE); 1 KB of stack, no heap. Text may be sent between two calls.
#pragma once

#include <stdint.h>

namespace et {
namespace captured {

constexpr uint8_t kKind = 0x8A;           // CAPTURE
constexpr uint32_t kLayout = 0xBA5E9CAB;  // CRC-32 of the message table: a test holds it against schema/link.md
constexpr uint32_t kChunk = 512;          // bytes of a tensor in one frame
constexpr uint32_t kLongestBlock = 254;   // bytes without a zero that one COBS code covers

// One frame, on its way to `put(byte)`.
template <class Put>
class Frame {
 public:
  Frame(Put& put, uint16_t sequence) : put_(put) {
    put_(uint8_t{0});
    u8(kKind);
    u16(sequence);
  }

  void u8(uint8_t value) {
    crc_ ^= value;
    for (int bit = 0; bit < 8; ++bit) {
      crc_ = crc_ >> 1 ^ ((crc_ & 1U) != 0 ? 0xEDB88320U : 0U);
    }
    stuff(value);
  }

  void u16(uint32_t value) {
    u8(static_cast<uint8_t>(value));
    u8(static_cast<uint8_t>(value >> 8));
  }

  void u32(uint32_t value) {
    u16(value & 0xFFFFU);
    u16(value >> 16);
  }

  void end() {
    const uint32_t crc = ~crc_;
    for (int shift = 0; shift < 32; shift += 8) {
      stuff(static_cast<uint8_t>(crc >> shift));
    }
    block();
    put_(uint8_t{0});
  }

 private:
  void stuff(uint8_t byte) {
    if (byte == 0) {
      block();
      return;
    }
    block_[count_++] = byte;
    if (count_ == kLongestBlock) {
      block();
    }
  }

  void block() {
    put_(static_cast<uint8_t>(count_ + 1));
    for (uint32_t i = 0; i < count_; ++i) {
      put_(block_[i]);
    }
    count_ = 0;
  }

  Put& put_;
  uint8_t block_[kLongestBlock];
  uint32_t count_ = 0;
  uint32_t crc_ = ~kLayout;
};

}  // namespace captured

// Sends all inputs, or all outputs, of run `number` through `put(uint8_t)`. `Tensors` is Inputs or Outputs of a
// generated program.h.
template <class Tensors, class Put>
void capture(Tensors, uint32_t number, Put&& put) {
  Tensors::each([&](uint16_t index, const void* data, uint32_t bytes, uint8_t dtype, uint8_t rank, const int32_t* sizes,
                    const uint8_t* dim_order) {
    uint32_t offset = 0;
    do {
      const uint32_t left = bytes - offset;
      const uint32_t size = left < captured::kChunk ? left : captured::kChunk;
      captured::Frame<Put> frame(put, static_cast<uint16_t>(number));
      frame.u32(number);
      frame.u32(static_cast<uint32_t>(Tensors::program_hash));
      frame.u32(static_cast<uint32_t>(Tensors::program_hash >> 32));
      frame.u8(Tensors::method);
      frame.u8(Tensors::role);
      frame.u16(Tensors::count);
      frame.u16(index);
      frame.u8(dtype);
      frame.u8(rank);
      frame.u32(bytes);
      for (uint8_t i = 0; i < rank; ++i) {
        frame.u32(static_cast<uint32_t>(sizes[i]));
      }
      for (uint8_t i = 0; i < rank; ++i) {
        frame.u8(dim_order[i]);
      }
      frame.u32(offset);
      for (uint32_t i = 0; i < size; ++i) {
        frame.u8(static_cast<const uint8_t*>(data)[offset + i]);
      }
      frame.end();
      offset += size;
    } while (offset < bytes);
  });
}

}  // namespace et
