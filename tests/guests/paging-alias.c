/* The guest edits its tables through another linear address and through a recursive entry (SDM 3, 4.10). */
#include "lib/rt.h"

enum { VA = 0x40003000, ALIAS = 0x50000000, SELF = 1023 };

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W), *e, *one = page(), *two = page();
	volatile u32 *const window = (u32 *)VA, *const alias = (u32 *)ALIAS + (VA >> 12 & 1023);
	volatile u32 *const self = (u32 *)0xffc00000 + (VA >> 12), *const self_pd = (u32 *)0xfffff000;

	*one = 0x11111111;
	*two = 0x22222222;
	e = pte(pd, VA);
	*e = (u32)one | PG_P | PG_W;
	*pte(pd, ALIAS) = ((u32)e & ~0xfffu) | PG_P | PG_W;
	pd[SELF] = (u32)pd | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	say("%08x\n", *window);
	say("through the alias: %s\n", (*alias & ~0xfffu) == (u32)one ? "one" : "?");
	*alias = (u32)two | PG_P | PG_W;
	invlpg(VA);
	say("%08x\n", *window);
	say("through itself: %s A %u\n", (*self & ~0xfffu) == (u32)two ? "two" : "?", *self >> 5 & 1);
	*self = (u32)one | PG_P | PG_W;
	invlpg(VA);
	say("%08x\n", *window);
	check("the directory in its own window", self_pd[SELF] == ((u32)pd | PG_P | PG_W | PG_A | PG_D) || (self_pd[SELF] & ~0xfffu) == (u32)pd);
	self_pd[0x44000000 >> 22] = (u32)e & ~0xfffu;
	self_pd[0x44000000 >> 22] |= PG_P | PG_W;
	say("the same table at another address: %08x\n", *(u32 *)(0x44000000 + (VA & 0x3ff000)));
	for (u32 i = 0; i < 200; i++) {
		*self = (u32)(i & 1 ? one : two) | PG_P | PG_W;
		invlpg(VA);
		if (*window != (i & 1 ? 0x11111111 : 0x22222222))
			say("round %u: %08x\n", i, *window);
	}
	say("200 rounds\n");
	return 0;
}
