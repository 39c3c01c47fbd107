#pragma once

#include "convolution/m4f.h"
#include "few_bits/convolution.h"
