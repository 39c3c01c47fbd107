// Structs that assembly reads: where each member lies is said once more, so that whoever moves one is told by the
// compiler.
#pragma once

#include <stddef.h>

// `member` is the struct's word number `word`.
#define ET_WORD(type, member, word) \
  static_assert(offsetof(type, member) == 4 * (word), #type "::" #member " is not where the assembly reads it")

// A place in a frame by its name: "ldr r2, " ET_IN_FRAME(ET_PAIRS_AT_quads) "\n" for "ldr r2, [sp, #44]\n". ET_PLACE
// says that the frame begins with a copy of the struct.
#define ET_TEXT_OF(number) #number
#define ET_TEXT(number) ET_TEXT_OF(number)
#define ET_IN_FRAME(bytes) "[sp, #" ET_TEXT(bytes) "]"
#define ET_PLACE(type, member, bytes) \
  static_assert(offsetof(type, member) == (bytes), #type "::" #member " is not where the assembly reads it")
