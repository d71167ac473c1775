/* Every combination of P, W, U in directory and table, WP, ring and kind of access: done or the error code (SDM 3, 4.6, 4.7). */
#include "lib/rt.h"

CODE(read_it, "mov (%ebx), %eax");
CODE(write_it, "movb $0xc3, (%ebx)");

enum { VA = 0x40000000 };

static void cell(int ring, const void *code)
{
	struct try t;

	fresh(&t);
	t.r.ebx = VA;
	t.code = code;
	if (!(ring ? try3 : try0)(&t, code))
		say(" --");
	else if (t.vector == 14 && t.cr2 == VA)
		say(" %02x", t.error);
	else
		say(" vector %u cr2 %08x,", t.vector, t.cr2);
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U);
	u32 *e = pte(pd, VA);
	u8 *target = page();

	*target = 0xc3; /* ret: the page can be executed too */
	say("pde pte: ring 0 read write fetch, ring 3 read write fetch\n");
	for (u32 wp = 0; wp < 2; wp++) {
		say("WP %u\n", wp);
		paging_on(pd, wp ? CR0_WP : 0);
		for (u32 d = 0; d < 8; d++)
			for (u32 t = 0; t < 8; t++) {
				pd[VA >> 22] = (pd[VA >> 22] & ~7u) | d;
				*e = (u32)target | t;
				invlpg(VA);
				say("%c%c%c %c%c%c:", d & 1 ? 'P' : '-', d & 2 ? 'W' : '-', d & 4 ? 'U' : '-', t & 1 ? 'P' : '-', t & 2 ? 'W' : '-',
				    t & 4 ? 'U' : '-');
				for (int ring = 0; ring < 4; ring += 3) {
					cell(ring, read_it);
					cell(ring, write_it);
					cell(ring, (void *)VA);
				}
				say("\n");
			}
	}
	return 0;
}
