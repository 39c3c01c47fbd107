#pragma once

#include "convolution/rv32f.h"
#include "recurrent/recurrent.h"
