// Counts and values of each step, in the builds that ask for them (et/probe.h).
#include "et/probe.h"
#include "runtime/core.h"
#include "runtime/link.h"
#include "runtime/session.h"

namespace et {

#if defined(ET_PROBES)

uint32_t probe_ticks[kProbeWords];

namespace {

uint64_t run_start;
uint32_t left_out;  // ticks that went by while results were streamed

#if defined(ET_TRACE)
uint32_t cost_of_trace;  // ticks of a call that streams nothing

uint32_t ticks() { return static_cast<uint32_t>(counter_since(run_start)); }
#endif

void mark_twice() {
  probe(0);
  probe(ET_PROBE_COUNT);
  probe_ticks[ET_PROBE_COUNT] -= probe_ticks[0];
}

}  // namespace

void probes_begin(uint64_t start) {
  run_start = start;
  left_out = 0;
}

void probes_calibrate(uint64_t start) {
  probes_begin(start);
#if defined(ET_TRACE)
  cost_of_trace = 0;
  probe(0);
  trace(0, 0, nullptr, 0);
  probe(ET_PROBE_COUNT);
  const uint32_t with_trace = probe_ticks[ET_PROBE_COUNT] - probe_ticks[0];
  mark_twice();
  const uint32_t without = probe_ticks[ET_PROBE_COUNT];
  cost_of_trace = with_trace > without ? with_trace - without : 0;  // on the host it may seem to cost less than nothing
#else
  mark_twice();
#endif
  current_step = kNoStep;
}

void probe(uint32_t step) {
  probe_ticks[step] = static_cast<uint32_t>(counter_since(run_start)) - left_out;
  current_step = step;
}

#endif

#if defined(ET_TRACE)

namespace {

uint32_t traced_run;
uint16_t traced_frames;
bool tracing = false;

void send_trace(uint32_t step, uint32_t output, const uint8_t* data, uint32_t size, uint32_t offset) {
  const uint32_t left = size - offset;
  send_begin(kTrace, traced_frames);
  send_u32(traced_run);
  send_u32(step);
  send_u32(output);
  send_u32(size);
  send_u32(offset);
  send_bytes(data + offset, left < kSendChunk ? left : kSendChunk);
  send_end();
}

// False when a host has come that knows nothing of this run.
bool host_continues(bool* repeat) {
  *repeat = false;
  for (;;) {
    Frame frame;
    link_receive(&frame);
    if (frame.kind == kContinue && frame.sequence == traced_frames) {
      return true;
    }
    if (frame.kind == kRun) {
      *repeat = true;
      return true;
    }
    if (frame.kind == kIdentify) {
      answer_identify(frame.sequence);
      return false;
    }
  }
}

void send_result(uint32_t step, uint32_t output, const void* data, uint32_t bytes) {
  uint32_t offset = 0;
  while (tracing && offset < bytes) {
    ++traced_frames;
    bool repeat = true;
    while (tracing && repeat) {
      send_trace(step, output, static_cast<const uint8_t*>(data), bytes, offset);
      tracing = host_continues(&repeat);
    }
    offset += kSendChunk;
  }
}

// Calls what streams results, by a clock that leaves it out.
template <class Stream>
void beside_the_clock(const Stream& stream) {
#if defined(ET_PROBES)
  const uint32_t begin = ticks();
  const uint32_t since_mark = begin - left_out - probe_ticks[current_step];
  stream();
  // No more than has passed: on the host the cost is no more exact than the clock, and the next mark must not lie
  // before.
  left_out += ticks() - begin + (cost_of_trace < since_mark ? cost_of_trace : since_mark);
#else
  stream();
#endif
}

}  // namespace

void trace_begin(uint32_t run) {
  traced_run = run;
  traced_frames = 0;
  tracing = true;
}

// Not inlined, so that it costs in `probes_calibrate` what it costs a program.
__attribute__((noinline)) void trace(uint32_t step, uint32_t output, const void* data, uint32_t bytes) {
  beside_the_clock([&] { send_result(step, output, data, bytes); });
}

void trace(uint32_t step, const Result* results) {
  beside_the_clock([&] {
    for (const Result* result = results; result->data != nullptr; ++result) {
      if (result->step == step) {
        send_result(step, result->output, result->data, result->bytes);
      }
    }
  });
}

#endif

}  // namespace et
