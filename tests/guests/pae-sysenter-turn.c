/* As sysenter-turn, under PAE paging. */
#include "lib/pae.h"

enum { KEPT = 0 };
static void start(void) { pae_on(pae_identity(16, PG_P | PG_W | PG_U), CR0_WP); }
#include "lib/sysenter-turn.h"
