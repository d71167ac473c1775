/* A page is a page table, then data, then code, then a table again: the VMM must let go of it each time (SDM 3, 4.10.2). */
#include "lib/rt.h"

enum { VA = 0x40000000 };

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U), *it = page(), *data = page();
	u32 bad = 0;

	paging_on(pd, CR0_WP);
	for (u32 round = 0; round < 50; round++) {
		memset(it, 0, 4096);
		*data = round;
		it[3] = (u32)data | PG_P | PG_W | PG_U;
		pd[VA >> 22] = (u32)it | PG_P | PG_W | PG_U;
		write_cr3((u32)pd);
		if (*(volatile u32 *)(VA + 0x3000) != round)
			bad++;
		*(volatile u32 *)(VA + 0x3000) = round + 1000;
		if (*data != round + 1000 || !(it[3] & PG_D))
			bad++;
		pd[VA >> 22] = 0;
		write_cr3((u32)pd);
		for (u32 i = 0; i < 1024; i++) /* data */
			it[i] = i ^ round;
		for (u32 i = 0; i < 1024; i++)
			if (it[i] != (i ^ round))
				bad++;
		memcpy(it, "\xb8\0\0\0\0\x0e\x5a\xc3", 8); /* code: mov $round, %eax; push %cs; pop %edx; ret */
		memcpy((u8 *)it + 1, &round, 4);
		struct try t;

		fresh(&t);
		if (try0(&t, it) || t.r.eax != round || (t.r.edx & 0xffff) != SEL_KCODE)
			bad++;
	}
	check("50 rounds", bad == 0);
	return 0;
}
