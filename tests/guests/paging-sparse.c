/* 900 page tables, a page touched through each, from both rings and under several directories: shadow memory is bounded. */
#include "lib/rt.h"

enum { TABLES = 900, FIRST = 0x10000000 >> 22 };
CODE(touch, "mov (%ebx), %eax; incl 4(%ebx)");

int main(void)
{
	u32 *pd = identity_map(32, PG_P | PG_W | PG_U), *other, bad = 0;
	u32 *cells = page();

	for (u32 i = 0; i < TABLES; i++)
		*pte(pd, (FIRST + i) << 22 | (i & 1023) << 12) = (u32)cells | PG_P | PG_W | PG_U;
	other = page();
	memcpy(other, pd, 4096);
	cells[0] = 0x1234;
	paging_on(pd, CR0_WP);
	for (u32 round = 0; round < 4; round++) {
		write_cr3((u32)(round & 1 ? other : pd));
		for (u32 i = 0; i < TABLES; i++) {
			struct try t;

			fresh(&t);
			t.r.ebx = (FIRST + i) << 22 | (i & 1023) << 12;
			if (round & 2) {
				try3(&t, touch);
				bad += t.vector != VEC_DONE;
			} else {
				bad += try0(&t, touch);
			}
			bad += t.r.eax != 0x1234;
		}
	}
	say("%u writes\n", cells[1]);
	check("all seen", bad == 0);
	return 0;
}
