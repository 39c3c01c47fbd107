// Transposed convolution with the tiles of RV32.
#pragma once

#include "convolution/quantized_rv32.h"
#include "convolution/quantized_transposed.h"
