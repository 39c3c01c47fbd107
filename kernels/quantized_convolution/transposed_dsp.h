// int8 transposed convolution on Armv7E-M with DSP instructions: the columns of transposed.h by the core for one
// column.
#pragma once

#include "quantized_convolution/dsp.h"
#include "quantized_convolution/transposed.h"
