/* 4 MiB pages: reach, split into 4 KiB and joined again, PSE off makes the same entry a table (SDM 3, 4.3). */
#include "lib/rt.h"

enum { VA = 0x40000000, PA = 0x1000000 };

int main(void)
{
	u32 *pd = identity_map(24, PG_P | PG_W), *table = page();
	volatile u32 *const a = (u32 *)(VA + 0x123456 / 4 * 4), *const p = (u32 *)(PA + 0x123456 / 4 * 4);

	*p = 0x11111111;
	write_cr4(CR4_PSE);
	pd[VA >> 22] = PA | PG_P | PG_W | PG_PS;
	paging_on(pd, CR0_WP);
	say("large %08x\n", *a);
	*a = 0x22222222;
	say("written %08x\n", *p);
	for (u32 i = 0; i < 1024; i++)
		table[i] = (PA + i * 4096) | PG_P | PG_W;
	pd[VA >> 22] = (u32)table | PG_P | PG_W;
	invlpg((u32)a);
	write_cr3((u32)pd);
	say("split %08x\n", *a);
	table[0x123] = (PA + 0x200000) | PG_P | PG_W;
	*(u32 *)(PA + 0x200454) = 0x33333333;
	invlpg((u32)a);
	say("one page moved %08x\n", *a);
	pd[VA >> 22] = PA | PG_P | PG_W | PG_PS;
	write_cr3((u32)pd);
	say("joined %08x\n", *a);
	/* Without PSE the entry's frame is a table: make the memory there one. */
	for (u32 i = 0; i < 1024; i++)
		((u32 *)PA)[i] = (PA + 0x300000) | PG_P | PG_W;
	*(u32 *)(PA + 0x300454) = 0x44444444;
	write_cr4(0);
	say("without PSE %08x\n", *a);
	write_cr4(CR4_PSE);
	say("with PSE %08x\n", *a);
	return 0;
}
