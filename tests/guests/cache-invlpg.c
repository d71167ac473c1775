/* INVD is never run on memory that matters; WBINVD and INVLPG change nothing visible; ring 3 may not INVLPG (SDM 2). */
#include "lib/rt.h"

CODE(wb, "wbinvd");
CODE(inv, "invlpg (%esp)");
CODE(inv_unmapped, "invlpg 0xdeadbeef");
CODE(inv_register, ".byte 0x0f, 0x01, 0xf8 + 7");

int main(void)
{
	static volatile u32 cell = 5;

	cell = 6;
	go0("wbinvd", wb, 0);
	BOTH(inv);
	BOTH(inv_unmapped);
	BOTH(inv_register);
	paging_on(identity_map(16, PG_P | PG_W | PG_U), 0);
	BOTH(inv);
	BOTH(inv_unmapped);
	say("%u\n", cell);
	return 0;
}
