/* A jump to an absent page, with an IDT on an absent page too. */
#include "../lib/rt.h"

int main(void)
{
	static struct dtr far = { 0x7ff, 0x50000000 };

	say("going down\n");
	paging_on(identity_map(16, PG_P | PG_W), CR0_WP);
	asm volatile("lidt %0; mov $0x40000123, %%eax; jmp *%%eax" : : "m"(far) : "eax");
	return 1;
}
