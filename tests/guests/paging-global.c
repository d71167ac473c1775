/* Global pages: INVLPG and toggling CR4.PGE drop them; the new translation is the one in the table (SDM 3, 4.10.2.4). */
#include "lib/rt.h"

enum { VA = 0x40000000 };

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W), *e = pte(pd, VA), *one = page(), *two = page();
	volatile u32 *const a = (u32 *)VA;

	*one = 1;
	*two = 2;
	*e = (u32)one | PG_P | PG_W | PG_G;
	paging_on(pd, CR0_WP);
	write_cr4(read_cr4() | CR4_PGE);
	say("%u\n", *a);
	write_cr3((u32)pd);
	say("after a CR3 load %u\n", *a);
	*e = (u32)two | PG_P | PG_W | PG_G;
	invlpg(VA);
	say("after INVLPG %u\n", *a);
	*e = (u32)one | PG_P | PG_W | PG_G;
	write_cr4(read_cr4() & ~CR4_PGE);
	say("after PGE off %u\n", *a);
	write_cr4(read_cr4() | CR4_PGE);
	*e = (u32)two | PG_P | PG_W | PG_G;
	write_cr4(read_cr4() & ~CR4_PGE);
	write_cr4(read_cr4() | CR4_PGE);
	say("after PGE off and on %u\n", *a);
	return 0;
}
