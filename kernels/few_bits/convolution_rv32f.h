#pragma once

#include "convolution/rv32f.h"
#include "few_bits/convolution.h"
