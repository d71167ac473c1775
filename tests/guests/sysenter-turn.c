/* SYSENTER and SYSEXIT, many times over, under 32-bit paging. */
#include "lib/rt.h"

enum { KEPT = 0 };
static void start(void) { paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP); }
#include "lib/sysenter-turn.h"
