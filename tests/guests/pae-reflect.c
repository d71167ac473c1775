/* As reflect, under PAE paging: three levels, of which the four pointers count as they were when CR3 was loaded, and fetches that are told apart with NX only. */
#include "lib/pae.h"

typedef u64 entry_t;
enum { LEVELS = 3 };
static u64 *root;
static entry_t *entry(u32 va, int level) { return pae_entry(root, va, level); }
static void start(void) { wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE); root = pae_identity(16, PG_P | PG_W | PG_U); pae_on(root, CR0_WP); }
/* Without NX a fetch is not told apart (SDM 3, 4.7). */
static void last(void (*run)(void)) { wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_NXE); run(); }
#include "lib/reflect.h"
