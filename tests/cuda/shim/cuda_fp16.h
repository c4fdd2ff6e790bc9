// Stands where CUDA's own header does, so that the kernels' sources compile as they are.
#pragma once
#include "shim.h"
