// The main loop: one question of the host after the other. Every question may come twice (schema/link.md).
#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include <stddef.h>

#include "et/program.h"
#include "runtime/core.h"
#include "runtime/link.h"
#include "runtime/session.h"
#include "runtime/setup.h"
#if defined(ET_SIZED)
#include "runtime/sized.h"
#endif
#include "uart/uart.h"

namespace et {

#if defined(ET_SIZED)
namespace sized {
void answer_identify(uint16_t sequence);
#else
volatile uint32_t current_run;
volatile uint32_t current_step;
#endif

namespace {

// All that is kept from one question to the next, in one piece: each object by itself would cost its address, in every
// function that uses it. Numbers that a frame has one after the other lie one after the other.
struct State {
  Frame frame;  // the question that is being answered
  uint64_t init_ticks;
  uint32_t boot;
  uint32_t image_crc;
  uint32_t image_bytes;  // 0 until they are asked for
  // the last run, its numbers as DONE has them
  uint32_t runs;
  uint32_t method;
  uint32_t ticks[2];
  uint32_t overhead;
  uint32_t output_crc;
};

State state;
constexpr uint32_t kTold = 16;  // ticks:u64 overhead:u32 crc:u32
static_assert(offsetof(State, output_crc) + sizeof(state.output_crc) - offsetof(State, ticks) == kTold,
              "without a gap");

void begin(Kind kind) { send_begin(kind, state.frame.sequence); }

void refuse(Reason reason, uint32_t item, uint32_t ours, uint32_t theirs) {
  const uint32_t numbers[] = {item, ours, theirs};
  begin(kRefused);
  send_u8(reason);
  send_bytes(numbers, sizeof(numbers));
  send_end();
}

void say(Kind kind, uint32_t run) {
  begin(kind);
  send_u32(run);
  send_end();
}

void learn_image() {
  const uint8_t* start;
  uint32_t bytes;
  for (uint32_t part = 0; image_part(part, &start, &bytes); ++part) {
    state.image_crc = crc32(state.image_crc, start, bytes);
    state.image_bytes += bytes;
  }
}

// How many inputs or outputs a method has; of other roles none.
uint32_t count_of(uint32_t method, uint32_t role) {
  return role <= kRoleOutput ? program::tensor_counts[2 * method + role] : 0;
}

// A method of the program; else refused, and false.
bool is_method(uint32_t method) {
  if (method < program::method_count) {
    return true;
  }
  refuse(kReasonMethod, 0, program::method_count, method);
  return false;
}

void answer_describe() {
  const uint8_t number = state.frame.body[0];
  const uint8_t role = state.frame.body[1];
  const uint32_t index = read_u16(state.frame.body + 2);
  if (!is_method(number)) {
    return;
  }
  const MethodInfo& method = program::methods[number];
  if (role == kRoleMethod) {
    begin(kMethod);
    send_u8(number);
    send_bytes(&program::tensor_counts[2 * number], 4);
    send_text(method.name);
    send_end();
    return;
  }
  const uint32_t count = count_of(number, role);
  if (index >= count) {
    return refuse(kReasonIndex, role, count, index);
  }
  const TensorInfo& info = (role == kRoleInput ? method.inputs : method.outputs)[index];
  begin(kTensor);
  send_u8(number);
  send_u8(role);
  send_u16(static_cast<uint16_t>(index));
  send_u8(info.dtype);
  send_u8(info.rank);
#if defined(ET_SIZED)
  const int32_t* const least = info.sizes + info.rank;
  const int32_t* const largest = least + info.rank;
  send_u32(bytes_of(info, largest));
#else
  const int32_t* const least = info.sizes;
  const int32_t* const largest = info.sizes;
  send_u32(info.bytes);
#endif
  send_bytes(least, 4U * info.rank);
  send_bytes(largest, 4U * info.rank);
  send_bytes(info.dim_order, info.rank);
  send_text(info.name);
  send_end();
}

// The next run; else refused, and false.
bool is_next_run() {
  const uint32_t run = read_u32(state.frame.body);
  if (run == state.runs + 1) {
    return true;
  }
  refuse(kReasonRun, 0, state.runs + 1, run);
  return false;
}

// An input of a method for the next run; else refused, and null.
const TensorInfo* named_input(uint32_t* index) {
  const uint32_t method = state.frame.body[4];
  *index = read_u16(state.frame.body + 5);
  if (!is_next_run() || !is_method(method)) {
    return nullptr;
  }
  const uint32_t count = count_of(method, kRoleInput);
  if (*index >= count) {
    refuse(kReasonIndex, kRoleInput, count, *index);
    return nullptr;
  }
  return &program::methods[method].inputs[*index];
}

void answer_input() {
  uint32_t index;
  const TensorInfo* const named = named_input(&index);
  if (named == nullptr) {
    return;
  }
  const TensorInfo& info = *named;
  const uint8_t* const told = state.frame.body + 7;
  const uint32_t rank = told[1];
  if (told[0] != info.dtype) {
    return refuse(kReasonDtype, index, info.dtype, told[0]);
  }
  if (rank != info.rank) {
    return refuse(kReasonRank, index, info.rank, rank);
  }
  if (state.frame.size != 9 + 5 * rank) {
    return refuse(kReasonLength, kInput, 9 + 5 * rank, state.frame.size);
  }
  for (uint32_t i = 0; i < rank; ++i) {
    const uint32_t size = read_u32(told + 2 + 4 * i);
#if defined(ET_SIZED)
    const int32_t* const range = info.sizes + info.rank + i;
    const uint32_t least = static_cast<uint32_t>(range[0]);
    const uint32_t most = static_cast<uint32_t>(range[info.rank]);
    if (size < least || size > most) {
      return refuse(kReasonSize, i, size < least ? least : most, size);
    }
#else
    if (size != static_cast<uint32_t>(info.sizes[i])) {
      return refuse(kReasonSize, i, static_cast<uint32_t>(info.sizes[i]), size);
    }
#endif
  }
  for (uint32_t i = 0; i < rank; ++i) {
    const uint32_t dimension = told[2 + 4 * rank + i];
    if (dimension != info.dim_order[i]) {
      return refuse(kReasonOrder, i, info.dim_order[i], dimension);
    }
  }
#if defined(ET_SIZED)
  for (uint32_t i = 0; i < rank; ++i) {
    const_cast<int32_t*>(info.sizes)[i] = static_cast<int32_t>(read_u32(told + 2 + 4 * i));
  }
  measure(const_cast<TensorInfo*>(&info));
#endif
  say(kAccepted, state.runs + 1);
}

void answer_write() {
  uint32_t index;
  const TensorInfo* const named = named_input(&index);
  if (named == nullptr) {
    return;
  }
  const TensorInfo& info = *named;
  const uint32_t offset = read_u32(state.frame.body + 7);
  const uint32_t bytes = state.frame.size - 11;
  if (offset > info.bytes || bytes > info.bytes - offset) {
    return refuse(kReasonBounds, index, info.bytes, offset + bytes);
  }
  uint8_t* const to = static_cast<uint8_t*>(const_cast<void*>(info.data)) + offset;
  for (uint32_t i = 0; i < bytes; ++i) {
    to[i] = state.frame.body[11 + i];
  }
  say(kAccepted, state.runs + 1);
}

void send_data(uint8_t role, uint32_t index, const uint8_t* data, uint32_t offset, uint32_t bytes) {
  begin(kData);
  send_u32(state.runs);
  send_u8(role);
  send_u16(static_cast<uint16_t>(index));
  send_u32(offset);
  send_bytes(data + offset, bytes);
  send_end();
}

void answer_read() {
  const uint32_t run = read_u32(state.frame.body);
  const uint8_t role = state.frame.body[4];
  const uint32_t index = read_u16(state.frame.body + 5);
  const uint32_t offset = read_u32(state.frame.body + 7);
  const uint32_t bytes = read_u16(state.frame.body + 11);
  if (run != state.runs) {
    return refuse(kReasonRun, 0, state.runs, run);
  }
  const uint8_t* data = nullptr;
  uint32_t size = 0;
  const uint32_t count = role == kRoleOutput ? count_of(state.method, role) : 0;
  if (index < count) {
    const TensorInfo& info = program::methods[state.method].outputs[index];
    data = static_cast<const uint8_t*>(info.data);
    size = info.bytes;
  }
#if defined(ET_SIZED)
  if (role == kRoleSizes && index < count_of(state.method, kRoleOutput)) {
    const TensorInfo& info = program::methods[state.method].outputs[index];
    data = reinterpret_cast<const uint8_t*>(info.sizes);
    size = 4U * info.rank;
  }
#endif
#if defined(ET_PROBES)
  if (role == kRoleProbes && index == 0) {
    data = reinterpret_cast<const uint8_t*>(&probes);
    size = sizeof(probes);
  }
#endif
  if (data == nullptr) {
    return refuse(kReasonIndex, role, count, index);
  }
  if (offset > size || bytes > size - offset) {
    return refuse(kReasonBounds, index, size, offset + bytes);
  }
  send_data(role, index, data, offset, bytes);
}

uint32_t crc_of_inputs(uint32_t method) {
  uint32_t crc = 0;
  for (uint32_t i = 0; i < count_of(method, kRoleInput); ++i) {
    const TensorInfo& info = program::methods[method].inputs[i];
    crc = crc32(crc, &info.dtype, 2);  // and rank
    crc = crc32(crc, info.sizes, 4U * info.rank);
    crc = crc32(crc, info.dim_order, info.rank);
    crc = crc32(crc, info.data, info.bytes);
  }
  return crc;
}

void run_program() {
  program::select(state.method);
  state.overhead = static_cast<uint32_t>(counter_since(counter_start()));
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
  const uint64_t ticks = counter_since(start);
  state.ticks[0] = static_cast<uint32_t>(ticks);
  state.ticks[1] = static_cast<uint32_t>(ticks >> 32);
}

void send_outputs() {
  state.output_crc = 0;
  for (uint32_t i = 0; i < count_of(state.method, kRoleOutput); ++i) {
    const TensorInfo& info = program::methods[state.method].outputs[i];
    const uint8_t* const data = static_cast<const uint8_t*>(info.data);
#if defined(ET_SIZED)
    send_data(kRoleSizes, i, reinterpret_cast<const uint8_t*>(info.sizes), 0, 4U * info.rank);
#endif
    state.output_crc = crc32(state.output_crc, data, info.bytes);
    for (uint32_t offset = 0; offset < info.bytes; offset += kSendChunk) {
      const uint32_t left = info.bytes - offset;
      send_data(kRoleOutput, i, data, offset, left < kSendChunk ? left : kSendChunk);
    }
  }
}

void answer_run() {
  const uint32_t run = read_u32(state.frame.body);
  const uint32_t method = state.frame.body[4];
  const uint32_t crc = read_u32(state.frame.body + 5);
  const bool repeated = run == state.runs && state.runs != 0;
  if (!repeated) {
    if (!is_next_run() || !is_method(method)) {
      return;
    }
    const uint32_t ours = crc_of_inputs(method);
    if (ours != crc) {
      return refuse(kReasonCrc, 0, ours, crc);
    }
#if defined(ET_SIZED)
    int32_t differs[3];
    if (!program::settle(method, differs)) {
      return refuse(kReasonSize, static_cast<uint32_t>(differs[0]), static_cast<uint32_t>(differs[1]),
                    static_cast<uint32_t>(differs[2]));
    }
#endif
    say(kBusy, run);
    current_run = run;
    state.method = method;
    run_program();
    current_run = kNoRun;
    current_step = kNoStep;
    state.runs = run;
    send_outputs();
  }
  begin(kDone);
  send_u32(state.runs);
  send_u8(static_cast<uint8_t>(state.method));
  send_bytes(&state.ticks, kTold);
  send_end();
}

void answer_reset() {
  if (is_next_run()) {
    program::init();
    say(kAccepted, state.runs + 1);
  }
}

void answer_exit() {
  const uint8_t code = state.frame.body[0];
  say(kAccepted, state.runs);
  core_exit(code);
}

// Bytes of the body of a question, at least; INPUT and WRITE go on, the others have exactly these.
bool length_is_right() {
  static const uint8_t kLengths[] = {0, 6, 4, 9, 11, 9, 13, 0, 1, 4};
  static_assert(sizeof(kLengths) == kReset + 1, "one entry a question");
  const uint32_t length = kLengths[state.frame.kind];
  const bool more = state.frame.kind == kInput || state.frame.kind == kWrite;
  if (state.frame.size == length || (more && state.frame.size > length)) {
    return true;
  }
  refuse(kReasonLength, state.frame.kind, length, state.frame.size);
  return false;
}

void answer() {
  if (state.frame.kind == 0 || state.frame.kind > kReset) {
    return refuse(kReasonKind, 0, 0, state.frame.kind);
  }
  if (!length_is_right()) {
    return;
  }
  switch (state.frame.kind) {
    case kIdentify:
      return answer_identify(state.frame.sequence);
    case kDescribe:
      return answer_describe();
    case kInput:
      return answer_input();
    case kWrite:
      return answer_write();
    case kRun:
      return answer_run();
    case kRead:
      return answer_read();
    case kExit:
      return answer_exit();
    case kReset:
      return answer_reset();
    default:
      return;  // CONTINUE that came late
  }
}

}  // namespace

void answer_identify(uint16_t sequence) {
  if (state.image_bytes == 0) {
    learn_image();
  }
  send_begin(kHello, sequence);
  send_u16(kLinkVersion);
  send_u32(kLinkLayout);
  send_u32(state.boot);
  send_u8(reset_cause());
  send_u32(state.runs);
  send_bytes(&program::hash, 8);
  send_bytes(&state.image_crc, 8);  // and image_bytes
  send_u8(static_cast<uint8_t>(program::method_count));
  send_u32(program::step_count);
  const uint32_t stack[] = {stack_bytes(), stack_used()};
  send_bytes(&state.init_ticks, 8);
  send_bytes(stack, sizeof(stack));
  send_u16(kReceiveChunk);
  uint8_t features = 0;
#if defined(ET_PROBES)
  features |= kFeatureProbes;
#endif
#if defined(ET_TRACE)
  features |= kFeatureTrace;
#endif
#if defined(ET_CLOCK_SETUP)
  if (!clock_is_set()) {
    features |= kFeatureResetClock;
  }
#endif
  send_u8(features);
  send_u32(link_bad_frames());
  send_u32(clock_hz());
  send_text(program::board);
  send_text(program::name);
  send_end();
}

#if !defined(ET_SIZED)
__attribute__((weak))
#endif
void serve() {
  current_run = kNoRun;  // here, for no other data need be copied from flash at the start
  current_step = kNoStep;
  set_up_chip();
  uart_init();
  state.boot = boot_number();
  program::init();
  state.init_ticks = counter_since(0);
  for (;;) {
    link_receive(&state.frame);
    answer();
  }
}

#if defined(ET_SIZED)
}  // namespace sized
#endif
}  // namespace et
