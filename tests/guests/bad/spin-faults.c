/* An endless loop of page faults. */
#include "../lib/rt.h"

static void again(struct frame *f)
{
	(void)f;
}

int main(void)
{
	say("faulting\n");
	on(14, again);
	paging_on(identity_map(16, PG_P | PG_W), CR0_WP);
	asm volatile("mov 0x40000000, %eax");
	return 1;
}
