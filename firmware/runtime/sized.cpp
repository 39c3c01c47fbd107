// The main loop once more, for programs whose sizes are known at run time.
#define ET_SIZED
#include "runtime/main.cpp"
