/* Memory that is not there can be read and written without a fault, and keeps nothing. */
#include "lib/rt.h"

enum { VA = 0x40000000 };
CODE(read_it, "mov 0x40000010, %eax");
CODE(write_it, "movl $0x12345678, 0x40000010");
CODE(rmw_it, "addl $1, 0x40000010");

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U), *e = pte(pd, VA);

	*e = 0x30000000 | PG_P | PG_W | PG_U; /* beyond the 64 MiB there are */
	paging_on(pd, CR0_WP);
	BOTH(read_it);
	BOTH(write_it);
	BOTH(rmw_it);
	check("nothing kept", *(volatile u32 *)(VA + 0x10) != 0x12345678);
	say("A %u D %u\n", *e >> 5 & 1, *e >> 6 & 1);
	return 0;
}
