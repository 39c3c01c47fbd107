// A program as a table that a loop walks: each step's operands are words of the table, whose types the loop knows.
#pragma once

#include <stdint.h>

namespace et {

template <class T>
inline T* as(const void* word) {
  return static_cast<T*>(const_cast<void*>(word));
}

// `elements` behind `start`; nothing where there is nothing.
template <class T>
inline T* row_of(T* start, int32_t elements) {
  return start == nullptr ? nullptr : start + elements;
}

}  // namespace et
