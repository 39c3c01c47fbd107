// int8 pooling with the windows of cores that have DSP instructions.
#pragma once

#include "pooling/quantized.h"
#include "pooling/window8_dsp.h"
