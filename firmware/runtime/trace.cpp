// Counts and values of each step, in the builds that ask for them (et/probe.h).
#include <string.h>

#include "et/probe.h"
#include "runtime/core.h"
#include "runtime/link.h"
#include "runtime/session.h"

namespace et {

#if defined(ET_PROBES)

Probes probes;

namespace {

constexpr uint32_t kBeforeFirst = ET_PROBE_COUNT - 1;

uint64_t run_start;
Counted* running;  // the step that runs
uint32_t since;    // ticks at its mark, and those that have gone by since then while results were streamed

#if defined(ET_TRACE)
uint32_t cost_of_trace;  // ticks of a call that streams nothing

uint32_t ticks() { return static_cast<uint32_t>(counter_since(run_start)); }
#endif

// Ticks between two marks.
uint32_t mark_twice() {
  probes.steps[0].ticks = 0;
  probe(0);
  probe(kBeforeFirst);
  return probes.steps[0].ticks;
}

}  // namespace

void probes_begin(uint64_t start) {
  run_start = start;
  running = &probes.steps[kBeforeFirst];
  since = 0;
}

void probes_calibrate(uint64_t start) {
  probes_begin(start);
#if defined(ET_TRACE)
  cost_of_trace = 0;
  probes.steps[0].ticks = 0;
  probe(0);
  trace(0, 0, nullptr, 0);
  probe(kBeforeFirst);
  const uint32_t with_trace = probes.steps[0].ticks;
  const uint32_t without = mark_twice();
  cost_of_trace = with_trace > without ? with_trace - without : 0;  // on the host it may seem to cost less than nothing
#else
  const uint32_t without = mark_twice();
#endif
  memset(&probes, 0, sizeof(probes));
  probes.mark = without;
  current_step = kNoStep;
}

void probe(uint32_t step) {
  const uint32_t now = static_cast<uint32_t>(counter_since(run_start));
  running->ticks += now - since;
  since = now;
  running = &probes.steps[step];
  ++running->executions;
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
  const uint32_t since_mark = begin - since;
  stream();
  // No more than has passed: on the host the cost is no more exact than the clock, and the next mark must not lie
  // before.
  since += ticks() - begin + (cost_of_trace < since_mark ? cost_of_trace : since_mark);
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
