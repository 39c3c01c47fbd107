// Cycles.
// unit: cycles (mcycle)
#define ET_COUNTER_CSR "mcycle"
#include "arch/riscv/counter/csr.h"
