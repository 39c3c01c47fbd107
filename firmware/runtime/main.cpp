// The main loop: one question of the host after the other. Every question may come twice (schema/link.md).
#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include "et/program.h"
#include "runtime/core.h"
#include "runtime/link.h"
#include "runtime/session.h"
#include "uart/uart.h"

namespace et {

volatile uint32_t current_run = kNoRun;
volatile uint32_t current_step = kNoStep;

namespace {

uint32_t boot;
uint64_t init_ticks;
uint32_t runs;
bool image_known;
uint32_t image_crc;
uint32_t image_bytes;

// The last run.
uint64_t ticks;
uint32_t overhead;
uint32_t output_crc;

void refuse(const Frame& frame, Reason reason, uint32_t item, uint32_t ours, uint32_t theirs) {
  send_begin(kRefused, frame.sequence);
  send_u8(reason);
  send_u32(item);
  send_u32(ours);
  send_u32(theirs);
  send_end();
}

void say(Kind kind, const Frame& frame, uint32_t run) {
  send_begin(kind, frame.sequence);
  send_u32(run);
  send_end();
}

void learn_image() {
  const uint8_t* start;
  uint32_t bytes;
  for (uint32_t part = 0; image_part(part, &start, &bytes); ++part) {
    image_crc = crc32(image_crc, start, bytes);
    image_bytes += bytes;
  }
  image_known = true;
}

template <class Info>
void send_tensor(const Frame& frame, uint8_t role, uint32_t index, const Info& info) {
  send_begin(kTensor, frame.sequence);
  send_u8(role);
  send_u16(static_cast<uint16_t>(index));
  send_u8(info.dtype);
  send_u8(info.rank);
  send_u32(info.bytes);
  send_bytes(info.sizes, 4U * info.rank);
  send_bytes(info.dim_order, info.rank);
  send_text(info.name);
  send_end();
}

void answer_describe(const Frame& frame) {
  const uint8_t role = frame.body[0];
  const uint32_t index = read_u16(frame.body + 1);
  const uint32_t count = role == kRoleInput ? program::input_count : role == kRoleOutput ? program::output_count : 0;
  if (index >= count) {
    refuse(frame, kReasonIndex, role, count, index);
  } else if (role == kRoleInput) {
    send_tensor(frame, role, index, program::inputs[index]);
  } else {
    send_tensor(frame, role, index, program::outputs[index]);
  }
}

// The next run and an input of it; else refused, and false.
bool names_input(const Frame& frame, uint32_t* index) {
  const uint32_t run = read_u32(frame.body);
  *index = read_u16(frame.body + 4);
  if (run != runs + 1) {
    refuse(frame, kReasonRun, 0, runs + 1, run);
    return false;
  }
  if (*index >= program::input_count) {
    refuse(frame, kReasonIndex, kRoleInput, program::input_count, *index);
    return false;
  }
  return true;
}

void answer_input(const Frame& frame) {
  uint32_t index;
  if (!names_input(frame, &index)) {
    return;
  }
  const TensorInfo& info = program::inputs[index];
  const uint8_t* const told = frame.body + 6;
  const uint32_t rank = told[1];
  if (told[0] != info.dtype) {
    return refuse(frame, kReasonDtype, index, info.dtype, told[0]);
  }
  if (rank != info.rank) {
    return refuse(frame, kReasonRank, index, info.rank, rank);
  }
  if (frame.size != 8 + 5 * rank) {
    return refuse(frame, kReasonLength, kInput, 8 + 5 * rank, frame.size);
  }
  for (uint32_t i = 0; i < rank; ++i) {
    const uint32_t size = read_u32(told + 2 + 4 * i);
    if (size != static_cast<uint32_t>(info.sizes[i])) {
      return refuse(frame, kReasonSize, i, static_cast<uint32_t>(info.sizes[i]), size);
    }
  }
  for (uint32_t i = 0; i < rank; ++i) {
    const uint32_t dimension = told[2 + 4 * rank + i];
    if (dimension != info.dim_order[i]) {
      return refuse(frame, kReasonOrder, i, info.dim_order[i], dimension);
    }
  }
  say(kAccepted, frame, runs + 1);
}

void answer_write(const Frame& frame) {
  uint32_t index;
  if (!names_input(frame, &index)) {
    return;
  }
  const TensorInfo& info = program::inputs[index];
  const uint32_t offset = read_u32(frame.body + 6);
  const uint32_t bytes = frame.size - 10;
  if (offset > info.bytes || bytes > info.bytes - offset) {
    return refuse(frame, kReasonBounds, index, info.bytes, offset + bytes);
  }
  uint8_t* const to = static_cast<uint8_t*>(info.data) + offset;
  for (uint32_t i = 0; i < bytes; ++i) {
    to[i] = frame.body[10 + i];
  }
  say(kAccepted, frame, runs + 1);
}

void send_data(uint16_t sequence, uint8_t role, uint32_t index, const uint8_t* data, uint32_t offset, uint32_t bytes) {
  send_begin(kData, sequence);
  send_u32(runs);
  send_u8(role);
  send_u16(static_cast<uint16_t>(index));
  send_u32(offset);
  send_bytes(data + offset, bytes);
  send_end();
}

void answer_read(const Frame& frame) {
  const uint32_t run = read_u32(frame.body);
  const uint8_t role = frame.body[4];
  const uint32_t index = read_u16(frame.body + 5);
  const uint32_t offset = read_u32(frame.body + 7);
  const uint32_t bytes = read_u16(frame.body + 11);
  if (run != runs) {
    return refuse(frame, kReasonRun, 0, runs, run);
  }
  const uint8_t* data = nullptr;
  uint32_t size = 0;
  if (role == kRoleOutput && index < program::output_count) {
    data = static_cast<const uint8_t*>(program::outputs[index].data);
    size = program::outputs[index].bytes;
  }
#if defined(ET_PROBES)
  if (role == kRoleProbes && index == 0) {
    data = reinterpret_cast<const uint8_t*>(probe_ticks);
    size = sizeof(probe_ticks);
  }
#endif
  if (data == nullptr) {
    return refuse(frame, kReasonIndex, role, role == kRoleOutput ? program::output_count : 0, index);
  }
  if (offset > size || bytes > size - offset) {
    return refuse(frame, kReasonBounds, index, size, offset + bytes);
  }
  send_data(frame.sequence, role, index, data, offset, bytes);
}

uint32_t crc_of_inputs() {
  uint32_t crc = 0;
  for (uint32_t i = 0; i < program::input_count; ++i) {
    const TensorInfo& info = program::inputs[i];
    crc = crc32(crc, &info.dtype, 1);
    crc = crc32(crc, &info.rank, 1);
    crc = crc32(crc, info.sizes, 4U * info.rank);
    crc = crc32(crc, info.dim_order, info.rank);
    crc = crc32(crc, info.data, info.bytes);
  }
  return crc;
}

void run_program() {
  overhead = static_cast<uint32_t>(counter_since(counter_start()));
#if defined(ET_PROBES)
  probes_calibrate(counter_start());
#endif
#if defined(ET_TRACE)
  trace_begin(current_run);
#endif
  const uint64_t start = counter_start();
#if defined(ET_PROBES)
  probes_begin(start);
#endif
  program::run();
  ticks = counter_since(start);
}

void send_outputs(const Frame& frame) {
  output_crc = 0;
  for (uint32_t i = 0; i < program::output_count; ++i) {
    const ConstTensorInfo& info = program::outputs[i];
    const uint8_t* const data = static_cast<const uint8_t*>(info.data);
    output_crc = crc32(output_crc, data, info.bytes);
    for (uint32_t offset = 0; offset < info.bytes; offset += kSendChunk) {
      const uint32_t left = info.bytes - offset;
      send_data(frame.sequence, kRoleOutput, i, data, offset, left < kSendChunk ? left : kSendChunk);
    }
  }
}

void answer_run(const Frame& frame) {
  const uint32_t run = read_u32(frame.body);
  const uint32_t crc = read_u32(frame.body + 4);
  const bool repeated = run == runs && runs != 0;
  if (!repeated) {
    if (run != runs + 1) {
      return refuse(frame, kReasonRun, 0, runs + 1, run);
    }
    const uint32_t ours = crc_of_inputs();
    if (ours != crc) {
      return refuse(frame, kReasonCrc, 0, ours, crc);
    }
    say(kBusy, frame, run);
    current_run = run;
    run_program();
    current_run = kNoRun;
    current_step = kNoStep;
    runs = run;
    send_outputs(frame);
  }
  send_begin(kDone, frame.sequence);
  send_u32(runs);
  send_u64(ticks);
  send_u32(overhead);
  send_u32(output_crc);
  send_end();
}

void answer_exit(const Frame& frame) {
  const uint8_t code = frame.body[0];
  say(kAccepted, frame, runs);
  core_exit(code);
}

// Bytes of the body of a question, at least; INPUT and WRITE go on, the others have exactly these.
bool length_is_right(const Frame& frame) {
  static const uint8_t kLengths[] = {0, 6, 3, 8, 10, 8, 13, 0, 1};
  static_assert(sizeof(kLengths) == kExit + 1, "one entry a question");
  const uint32_t length = kLengths[frame.kind];
  const bool more = frame.kind == kInput || frame.kind == kWrite;
  if (frame.size == length || (more && frame.size > length)) {
    return true;
  }
  refuse(frame, kReasonLength, frame.kind, length, frame.size);
  return false;
}

void answer(const Frame& frame) {
  if (frame.kind == 0 || frame.kind > kExit) {
    return refuse(frame, kReasonKind, 0, 0, frame.kind);
  }
  if (!length_is_right(frame)) {
    return;
  }
  switch (frame.kind) {
    case kIdentify:
      return answer_identify(frame.sequence);
    case kDescribe:
      return answer_describe(frame);
    case kInput:
      return answer_input(frame);
    case kWrite:
      return answer_write(frame);
    case kRun:
      return answer_run(frame);
    case kRead:
      return answer_read(frame);
    case kExit:
      return answer_exit(frame);
    default:
      return;  // CONTINUE that came late
  }
}

}  // namespace

void answer_identify(uint16_t sequence) {
  if (!image_known) {
    learn_image();
  }
  send_begin(kHello, sequence);
  send_u16(kLinkVersion);
  send_u32(kLinkLayout);
  send_u32(boot);
  send_u8(0);  // no core can tell yet why it was reset
  send_u32(runs);
  send_u64(program::hash);
  send_u32(image_crc);
  send_u32(image_bytes);
  send_u16(static_cast<uint16_t>(program::input_count));
  send_u16(static_cast<uint16_t>(program::output_count));
  send_u32(program::step_count);
  send_u64(init_ticks);
  send_u32(stack_bytes());
  send_u32(stack_used());
  send_u16(kReceiveChunk);
  uint8_t features = 0;
#if defined(ET_PROBES)
  features |= kFeatureProbes;
#endif
#if defined(ET_TRACE)
  features |= kFeatureTrace;
#endif
  send_u8(features);
  send_u32(link_bad_frames());
  send_text(program::board);
  send_text(program::name);
  send_end();
}

void serve() {
  uart_init();
  boot = boot_number();
  program::init();
  init_ticks = counter_since(0);
  for (;;) {
    answer(link_receive());
  }
}

}  // namespace et
