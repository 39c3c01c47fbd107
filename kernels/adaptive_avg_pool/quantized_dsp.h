// int8 pooling to a given output size with the windows of cores that have DSP instructions.
#pragma once

#include "adaptive_avg_pool/quantized.h"
#include "pooling/window8_dsp.h"
