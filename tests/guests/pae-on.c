/* PAE paging goes on and off, the four top entries are loaded with CR3, and two-level paging afterwards works as before (SDM 3, 4.4.1). */
#include "lib/pae.h"

int main(void)
{
	volatile u32 *const alias = (u32 *)0x40001000;
	static volatile u32 cell __attribute__((aligned(4096)));
	u64 *root = pae_identity(16, PG_P | PG_W);

	*pae_entry(root, (u32)alias, 1) = (u32)&cell | PG_P | PG_W;
	for (int round = 0; round < 3; round++) {
		cell = 1 + round;
		pae_on(root, CR0_WP);
		say("cr0.pg %u cr4.pae %u\n", read_cr0() >> 31, read_cr4() >> 5 & 1);
		check("cr3 reads back", read_cr3() == (u32)root);
		check("the alias", *alias == 1u + round);
		*alias = 20 + round;
		check("the cell", cell == 20u + round);
		write_cr0(read_cr0() & ~CR0_PG);
		write_cr4(read_cr4() & ~CR4_PAE);
		u32 *pd = identity_map(16, PG_P | PG_W);

		*pte(pd, (u32)alias) = (u32)&cell | PG_P | PG_W;
		paging_on(pd, CR0_WP);
		check("two levels", *alias == 20u + round);
		write_cr0(read_cr0() & ~CR0_PG);
	}
	return 0;
}
