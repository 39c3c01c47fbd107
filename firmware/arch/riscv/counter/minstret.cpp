// Instructions retired.
// unit: instructions (minstret)
#define ET_COUNTER_CSR "minstret"
#include "arch/riscv/counter/csr.h"
