// A Linux process as a board: the same runtime, with signals as faults.
#include <execinfo.h>
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

uint8_t signal_stack[65536];

struct Segments {
  uint32_t wanted;
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
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type == PT_LOAD && !(segment.p_flags & PF_W) && found.at++ == found.wanted) {
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

uint64_t program_counter(const ucontext_t* context) {
#if defined(__x86_64__)
  return static_cast<uint64_t>(context->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return context->uc_mcontext.pc;
#else
  static_cast<void>(context);
  return 0;
#endif
}

// Return addresses stand for the stack: they are what is looked for in it.
[[noreturn]] void on_signal(int number, siginfo_t* info, void* context) {
  const uint64_t base = segment(0).base;
  const uint64_t address = reinterpret_cast<uint64_t>(info->si_addr);
  const uint32_t registers[] = {
      static_cast<uint32_t>(program_counter(static_cast<const ucontext_t*>(context)) - base),
      static_cast<uint32_t>(number),
      static_cast<uint32_t>(info->si_code),
      static_cast<uint32_t>(address),
      static_cast<uint32_t>(address >> 32),
  };
  void* callers[32];
  const int count = backtrace(callers, 32);
  uint32_t stack[32];
  for (int i = 0; i < count; ++i) {
    stack[i] = static_cast<uint32_t>(reinterpret_cast<uint64_t>(callers[i]) - base);
  }
  report_fault(kCoreHost, registers, 5, stack, 4U * static_cast<uint32_t>(count));
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
