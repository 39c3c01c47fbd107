/* A plugin of QEMU that counts the instructions of one call of one function, by the calls that led to them, and with
 * those of the caller round it, from the call before to the one behind: a counter that is read there counts the same.
 *
 * What it takes of QEMU's plugin interface (docs/devel/tcg-plugins.rst there) is declared here, for no package of
 * Debian brings the header. Built and loaded by instructions.py, with the arguments
 *
 *   entry=ADDRESS    of the function
 *   run=N            count its N-th call, from 1
 *   functions=FILE   addresses of all functions, in hexadecimal, ascending, one a line
 *   out=FILE         a line for each block of instructions and way there, `COUNT CALL ... : ADDRESS ...`; then `end`
 *
 * A CALL is the address behind a call, outermost first.
 *
 * A block that is the start of a function, and that the block before did not run into, is a call, or a jump that ends
 * the caller; one at an address behind a call is the return from it.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t Id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { kNoRegisters = 0, kLongest = 16 };

void qemu_plugin_register_vcpu_tb_trans_cb(Id id, void (*translated)(Id, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb* tb, void (*executed)(unsigned, void*), int flags,
                                          void* data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* tb);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb* tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn* instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn* instruction);

__attribute__((visibility("default"))) int qemu_plugin_version = INTERFACE;

typedef struct Way Way;
struct Way { /* calls, innermost first */
  Way* caller;
  uint64_t function, behind; /* where it begins, and where it returns to */
  Way* next;                 /* another one of the same caller */
  Way* called;
};

typedef struct Cell Cell;
struct Cell {
  const Way* way;
  uint64_t count;
  Cell* next;
};

typedef struct Block Block;
struct Block {
  uint64_t* addresses;
  size_t size;
  uint64_t behind; /* its last instruction */
  bool is_function;
  Cell* cells;
  Block* next;
};

static uint64_t entry, wanted = 1, calls;
static uint64_t* functions;
static size_t function_count;
static const char* out;
static Block* blocks;
static Block* before; /* the block that ran last */
static Way root;      /* in the caller */
static Way* way;      /* NULL before and after */
static bool is_back;  /* in the caller again, whose last block is not counted yet */
/* Blocks that ran one into the other before the call: QEMU ends a block at a page, too. */
static Block* stretch[kLongest];
static size_t stretched;

static void* fresh(size_t bytes) {
  void* const made = calloc(1, bytes);
  if (made == NULL) {
    abort();
  }
  return made;
}

static int compare(const void* a, const void* b) {
  const uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x > y) - (x < y);
}

static void write_way(FILE* file, const Way* at) {
  if (at != &root) {
    write_way(file, at->caller);
    fprintf(file, " %" PRIx64, at->behind);
  }
}

static void write_counts(void) {
  FILE* const file = fopen(out, "w");
  if (file == NULL) {
    return; /* the host misses the file, and says so */
  }
  for (const Block* block = blocks; block != NULL; block = block->next) {
    for (const Cell* cell = block->cells; cell != NULL; cell = cell->next) {
      fprintf(file, "%" PRIu64, cell->count);
      write_way(file, cell->way);
      fputs(" :", file);
      for (size_t i = 0; i < block->size; ++i) {
        fprintf(file, " %" PRIx64, block->addresses[i]);
      }
      fputc('\n', file);
    }
  }
  fputs("end\n", file);
  fclose(file);
}

static void call(uint64_t function, uint64_t behind) {
  Way* at = way->called;
  while (at != NULL && (at->function != function || at->behind != behind)) {
    at = at->next;
  }
  if (at == NULL) {
    at = fresh(sizeof(*at));
    at->caller = way;
    at->function = function;
    at->behind = behind;
    at->next = way->called;
    way->called = at;
  }
  way = at;
}

/* By addresses: QEMU's size of an instruction counts what it has read of the next one, before it left that to another
 * block. */
static bool runs_into(const Block* block) {
  const uint64_t last = before != NULL ? before->addresses[before->size - 1] : 0;
  return block->addresses[0] > last && block->addresses[0] - last <= 4;
}

static void follow(const Block* block) {
  const uint64_t start = block->addresses[0];
  for (const Way* at = way; at != &root; at = at->caller) {
    if (at->behind == start) {
      way = at->caller;
      return;
    }
  }
  if (block->is_function && start != way->function && !runs_into(block)) {
    call(start, before->behind);
  }
}

static void count(Block* block) {
  Cell* cell = block->cells;
  while (cell != NULL && cell->way != way) {
    cell = cell->next;
  }
  if (cell == NULL) {
    cell = fresh(sizeof(*cell));
    cell->way = way;
    cell->next = block->cells;
    block->cells = cell;
  }
  ++cell->count;
}

static void executed(unsigned core, void* data) {
  Block* const block = data;
  const bool goes_on = runs_into(block);
  (void)core;
  if (is_back) {
    if (!goes_on) {
      --before->size; /* the call of what reads the counter: an empty stretch between two readings has that too */
    }
    count(before);
    if (!goes_on) {
      write_counts();
      ++before->size;
      way = NULL;
      is_back = false;
    }
  } else if (way != NULL) {
    follow(block);
    is_back = way == &root;
    if (!is_back) {
      count(block);
    }
  } else if (block->addresses[0] == entry && ++calls == wanted) {
    way = &root;
    for (size_t i = 0; i < stretched; ++i) {
      count(stretch[i]);
    }
    call(entry, before->behind);
    count(block);
  } else {
    stretched = goes_on ? stretched : 0;
    if (stretched < kLongest) {
      stretch[stretched++] = block;
    }
  }
  before = block;
}

static void translated(Id id, struct qemu_plugin_tb* tb) {
  (void)id;
  Block* const block = fresh(sizeof(*block));
  block->size = qemu_plugin_tb_n_insns(tb);
  block->addresses = fresh(block->size * sizeof(*block->addresses));
  for (size_t i = 0; i < block->size; ++i) {
    const struct qemu_plugin_insn* const instruction = qemu_plugin_tb_get_insn(tb, i);
    block->addresses[i] = qemu_plugin_insn_vaddr(instruction);
    block->behind = block->addresses[i] + qemu_plugin_insn_size(instruction);
  }
  block->is_function = bsearch(block->addresses, functions, function_count, sizeof(*functions), compare) != NULL;
  block->next = blocks;
  blocks = block;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, kNoRegisters, block);
}

static bool read_functions(const char* path) {
  FILE* const file = fopen(path, "r");
  if (file == NULL) {
    return false;
  }
  uint64_t address;
  while (fscanf(file, "%" SCNx64, &address) == 1) {
    functions = realloc(functions, (function_count + 1) * sizeof(*functions));
    if (functions == NULL) {
      abort();
    }
    functions[function_count++] = address;
  }
  return fclose(file) == 0;
}

__attribute__((visibility("default"))) int qemu_plugin_install(Id id, const void* info, int argc, char** argv) {
  bool good = true;
  (void)info;
  for (int i = 0; i < argc; ++i) {
    const char* const value = strchr(argv[i], '=') + 1;
    switch (argv[i][0]) {
      case 'e':
        entry = strtoull(value, NULL, 0);
        break;
      case 'r':
        wanted = strtoull(value, NULL, 0);
        break;
      case 'f':
        good = read_functions(value);
        break;
      default:
        out = strdup(value);
    }
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  return good ? 0 : 1;
}
