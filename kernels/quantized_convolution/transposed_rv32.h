// Transposed convolution with the tiles of RV32.
#pragma once

#include "quantized_convolution/rv32.h"
#include "quantized_convolution/transposed.h"
