/* Ring 0 pushes to an absent page: the #PF and the #DF find no stack either. */
#include "../lib/rt.h"

int main(void)
{
	say("going down\n");
	paging_on(identity_map(16, PG_P | PG_W), CR0_WP);
	asm volatile("mov $0x40001000, %esp; push %eax");
	return 1;
}
