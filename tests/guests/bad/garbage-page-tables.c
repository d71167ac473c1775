/* CR3 at a page of garbage: not even the next instruction can be fetched. */
#include "../lib/rt.h"

int main(void)
{
	u32 *pd = page();

	say("going down\n");
	for (u32 i = 0; i < 1024; i++)
		pd[i] = 0xdeadbe00 + i * 2; /* never present */
	write_cr3((u32)pd);
	write_cr0(read_cr0() | CR0_PG);
	return 1;
}
