/* The same code, at the same address, in ring 0 and in ring 3, back and forth: each sees its own privilege. */
#include "lib/rt.h"

CODE(common, "mov %cs, %eax; mov %ss, %ebx; pushf; pop %ecx; push $0x202; popf; pushf; pop %edx; mov %ds, %esi; mov %edi, %edi");

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U);
	struct try t;

	pic_init();
	for (int paging = 0; paging < 2; paging++) {
		if (paging)
			paging_on(pd, CR0_WP);
		for (int i = 0; i < 6; i++) {
			fresh(&t);
			if (i & 1) {
				go3("ring 3", common, &t);
			} else {
				write_flags(2);
				go0("ring 0", common, &t);
			}
			say(" cs %04x ss %04x flags %08x then %08x ds %04x\n", t.r.eax & 0xffff, t.r.ebx & 0xffff, t.r.ecx & F_SYSTEM,
			    t.r.edx & F_SYSTEM, t.r.esi & 0xffff);
		}
	}
	return 0;
}
