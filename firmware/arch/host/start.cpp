// A Linux process as a board: the same runtime, with signals as faults.
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/core.h"
#include "runtime/fault.h"
#include "uart/uart.h"

namespace et {
namespace {

constexpr uint32_t kExecutable = 0xFFFFFFFF;

uint8_t signal_stack[65536];

struct Segments {
  uint32_t wanted;  // number among those that cannot be written, or kExecutable
  uint32_t at;
  uint64_t base;
  const uint8_t* start;
  uint32_t bytes;
};

// The first object is the program itself. What it cannot write is the same as in its file.
int find_segment(dl_phdr_info* info, size_t, void* result) {
  Segments& found = *static_cast<Segments*>(result);
  found.base = info->dlpi_addr;
  for (uint32_t i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) & segment = info->dlpi_phdr[i];
    if (segment.p_type == PT_LOAD && !(segment.p_flags & PF_W) &&
        (found.at++ == found.wanted || (found.wanted == kExecutable && (segment.p_flags & PF_X)))) {
      found.start = reinterpret_cast<const uint8_t*>(info->dlpi_addr + segment.p_vaddr);
      found.bytes = static_cast<uint32_t>(segment.p_filesz);
    }
  }
  return 1;
}

Segments segment(uint32_t index) {
  Segments found = {index, 0, 0, nullptr, 0};
  dl_iterate_phdr(find_segment, &found);
  return found;
}

Segments executable() { return segment(kExecutable); }

struct Place {
  uint64_t pc;
  uint64_t sp;
};

Place interrupted(const ucontext_t* context) {
#if defined(__x86_64__)
  return {static_cast<uint64_t>(context->uc_mcontext.gregs[REG_RIP]),
          static_cast<uint64_t>(context->uc_mcontext.gregs[REG_RSP])};
#elif defined(__aarch64__)
  return {context->uc_mcontext.pc, context->uc_mcontext.sp};
#else
  static_cast<void>(context);
  return {0, 0};
#endif
}

// Words of the stack that point into the code, relative to where it was loaded: the return addresses are among them.
__attribute__((no_sanitize("address"))) uint32_t code_pointers(uint64_t sp, uint32_t* found, uint32_t room) {
  const Segments code = executable();
  const uint64_t start = reinterpret_cast<uint64_t>(code.start);
  const uint64_t end = reinterpret_cast<uint64_t>(environ);  // lies above every frame of the main thread
  uint32_t count = 0;
  for (uint64_t at = (sp + 7) & ~uint64_t{7}; at < end && count < room; at += 8) {
    const uint64_t word = *reinterpret_cast<const uint64_t*>(at);
    if (word >= start && word < start + code.bytes) {
      found[count++] = static_cast<uint32_t>(word - code.base);
    }
  }
  return count;
}

[[noreturn]] void on_signal(int number, siginfo_t* info, void* context) {
  const uint64_t base = executable().base;
  const Place place = interrupted(static_cast<const ucontext_t*>(context));
  const uint64_t address = reinterpret_cast<uint64_t>(info->si_addr);
  const uint32_t registers[] = {
      static_cast<uint32_t>(place.pc - base), static_cast<uint32_t>(number),
      static_cast<uint32_t>(info->si_code),   static_cast<uint32_t>(address),
      static_cast<uint32_t>(address >> 32),
  };
  uint32_t stack[kFaultStackBytes / 4];
  const uint32_t count = code_pointers(place.sp, stack, kFaultStackBytes / 4);
  report_fault(kCoreHost, registers, 5, stack, 4U * count);
}

void catch_signals() {
  stack_t stack = {};
  stack.ss_sp = signal_stack;
  stack.ss_size = sizeof(signal_stack);
  sigaltstack(&stack, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  for (const int number : numbers) {
    sigaction(number, &action, nullptr);
  }
}

}  // namespace

bool image_part(uint32_t index, const uint8_t** start, uint32_t* bytes) {
  const Segments found = segment(index);
  *start = found.start;
  *bytes = found.bytes;
  return found.start != nullptr;
}

uint32_t stack_bytes() { return 0; }
uint32_t stack_used() { return 0; }

void core_exit(uint32_t code) {
  uart_flush();
  _exit(static_cast<int>(code));
}

}  // namespace et

int main() {
  et::counter_init();
  et::catch_signals();
  et::serve();
}
