/* SYSEXIT changes no data segment and reads no descriptor: a program may keep the kernel's data segments and null selectors with an RPL, and runs in a CS and SS that the
 * table does not have (SDM 2, SYSEXIT). Many times over. */
#include "lib/rt.h"

enum { KEPT = 1 };
static void start(void) { paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP); }
#include "lib/sysenter-turn.h"
