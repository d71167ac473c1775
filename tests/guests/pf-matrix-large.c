/* The same for 4 MiB pages: P, W, U of the entry, WP, ring, kind of access (SDM 3, 4.3, 4.6). */
#include "lib/rt.h"

CODE(read_it, "mov (%ebx), %eax");
CODE(write_it, "movb $0xc3, (%ebx)");

enum { VA = 0x40200000 };

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

	*(u8 *)0x1200000 = 0xc3;
	write_cr4(CR4_PSE);
	for (u32 wp = 0; wp < 2; wp++) {
		say("WP %u\n", wp);
		paging_on(pd, wp ? CR0_WP : 0);
		for (u32 d = 0; d < 8; d++) {
			pd[VA >> 22] = 0x1000000 | PG_PS | d;
			invlpg(VA);
			say("%c%c%c:", d & 1 ? 'P' : '-', d & 2 ? 'W' : '-', d & 4 ? 'U' : '-');
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
