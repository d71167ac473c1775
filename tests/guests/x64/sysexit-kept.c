/* The same, and a program keeps the kernel's data segments and null selectors with an RPL. */
enum { KEPT = 1 };
#include "../lib64/sysexit-turn.h"
