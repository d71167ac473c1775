/* Paging goes on and off again under running code; data written before is seen after and the reverse (SDM 3, 4.1.2). */
#include "lib/rt.h"

int main(void)
{
	volatile u32 *const alias = (u32 *)0x40001000;
	static volatile u32 cell __attribute__((aligned(4096)));
	u32 *pd = identity_map(32, PG_P | PG_W);

	*pte(pd, (u32)alias) = (u32)&cell | PG_P | PG_W;
	cell = 1;
	paging_on(pd, CR0_WP);
	say("cr0.pg %u cr0.wp %u\n", read_cr0() >> 31, read_cr0() >> 16 & 1);
	check("cr3 reads back", read_cr3() == (u32)pd);
	check("write before is seen at the alias", *alias == 1);
	*alias = 2;
	check("write through the alias is seen", cell == 2);
	write_cr0(read_cr0() & ~CR0_PG);
	check("and with paging off", cell == 2);
	cell = 3;
	write_cr0(read_cr0() | CR0_PG);
	check("on again", *alias == 3);
	return 0;
}
