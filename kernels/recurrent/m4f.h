#pragma once

#include "convolution/m4f.h"
#include "recurrent/recurrent.h"
