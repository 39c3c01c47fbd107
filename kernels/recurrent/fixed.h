#pragma once

#include "convolution/fixed.h"
#include "recurrent/recurrent.h"
