#pragma GCC optimize("Os")  // nothing in here is inside the counted part

#include "runtime/fault.h"

#include "runtime/core.h"
#include "runtime/session.h"

namespace et {

void report_fault(Core core, const uint32_t* registers, uint8_t count, const void* stack, uint32_t bytes) {
  for (;;) {
    send_begin(kFault, 0);
    send_u8(core);
    send_u32(current_run);
    send_u32(current_step);
    send_u8(count);
    for (uint32_t i = 0; i < count; ++i) {
      send_u32(registers[i]);
    }
    send_bytes(stack, bytes < kFaultStackBytes ? bytes : kFaultStackBytes);
    send_end();
    // The frame may have been lost: whatever the host asks, this is the answer.
    Frame frame;
    link_receive(&frame);
    if (frame.kind == kExit && frame.size == 1) {
      core_exit(frame.body[0]);
    }
  }
}

}  // namespace et
