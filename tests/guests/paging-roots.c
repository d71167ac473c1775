/* Many page directories, each with its own view of one page: CR3 switches see the right one (SDM 3, 4.10.4). */
#include "lib/rt.h"

enum { ROOTS = 300, VA = 0x40000000 };
static u32 *root[ROOTS];

int main(void)
{
	u32 bad = 0, *shared = identity_map(16, PG_P | PG_W);

	for (u32 i = 0; i < ROOTS; i++) {
		u32 *cell = page();

		root[i] = page();
		memcpy(root[i], shared, 16);
		*cell = i * 3;
		*pte(root[i], VA) = (u32)cell | PG_P | PG_W;
	}
	paging_on(root[0], CR0_WP);
	for (u32 round = 0; round < 3; round++)
		for (u32 i = 0; i < ROOTS; i++) {
			u32 n = round == 1 ? ROOTS - 1 - i : i;

			write_cr3((u32)root[n]);
			if (*(volatile u32 *)VA != n * 3 + round)
				bad++;
			++*(volatile u32 *)VA;
		}
	check("every root its own", bad == 0);
	return 0;
}
