/* A read-modify-write access that faults is a write fault, once (SDM 3, 4.7). */
#include "lib/rt.h"

CODE(add_, "addl $1, 0x40000123");
CODE(add_cross, "addl $1, 0x3ffffffd");
CODE(inc_, "incb 0x40000000");
CODE(xchg_, "xchg %eax, 0x40000010");
CODE(bts_, "lock btsl $5, 0x40000010");
CODE(cmpxchg_, "cmpxchg %ecx, 0x40000010");
CODE(cmpxchg8b_, "lock cmpxchg8b 0x40000010");

static void all(void)
{
	BOTH(add_);
	BOTH(add_cross);
	BOTH(inc_);
	BOTH(xchg_);
	BOTH(bts_);
	BOTH(cmpxchg_);
	BOTH(cmpxchg8b_);
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U);

	*pte(pd, 0x3ffff000) = (u32)page() | PG_P | PG_W | PG_U;
	*pte(pd, 0x40000000) = 0;
	paging_on(pd, CR0_WP);
	say("absent\n");
	all();
	*pte(pd, 0x40000000) = (u32)page() | PG_P | PG_U;
	invlpg(0x40000000);
	say("read-only\n");
	all();
	return 0;
}
