// Structs that assembly reads: where each member lies is said once more, so that whoever moves one is told by the
// compiler.
#pragma once

#include <stddef.h>

// `member` is the struct's word number `word`.
#define ET_WORD(type, member, word) \
  static_assert(offsetof(type, member) == 4 * (word), #type "::" #member " is not where the assembly reads it")
