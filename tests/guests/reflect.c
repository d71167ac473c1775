/* Page faults of programs that run as kernels run theirs, many times over (SDM 3, 4.7, 6.12, 6.15), under 32-bit paging: at pages that no table entry has
 * present, at both levels, with all sorts of other bits in the entry. */
#include "lib/rt.h"

typedef u32 entry_t;
enum { LEVELS = 2 };
static u32 *root;
static entry_t *entry(u32 va, int level) { return level == 2 ? root + (va >> 22) : pte(root, va); }
static void start(void) { root = identity_map(16, PG_P | PG_W | PG_U); paging_on(root, CR0_WP); }
static void last(void (*run)(void)) { (void)run; }
#include "lib/reflect.h"
