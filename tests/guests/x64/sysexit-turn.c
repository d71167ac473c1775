/* SYSEXIT of 64-bit kernels, many times over. */
enum { KEPT = 0 };
#include "../lib64/sysexit-turn.h"
