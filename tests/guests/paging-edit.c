/* The guest edits its tables: map, unmap, move, downgrade, upgrade, with INVLPG where the architecture asks for it (SDM 3, 4.10). */
#include "lib/rt.h"

CODE(read_it, "mov (%ebx), %eax");
CODE(write_it, "mov %ecx, (%ebx)");
enum { VA = 0x40003000 };

static void both(const char *name)
{
	struct try t;

	say("%s\n", name);
	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		t.r.ebx = VA;
		(ring ? go3 : go0)(" read", read_it, &t);
		if (t.r.eax != 0xa0a0a0a0)
			say("  %08x\n", t.r.eax);
		fresh(&t);
		t.r.ebx = VA;
		t.r.ecx = 0x1000 + ring;
		(ring ? go3 : go0)(" write", write_it, &t);
	}
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U), *one = page(), *two = page(), *e, *other;

	paging_on(pd, CR0_WP);
	both("nothing there");
	e = pte(pd, VA); /* no flush needed: absent entries are not cached */
	both("a table there");
	*one = 0x11111111;
	*two = 0x22222222;
	*e = (u32)one | PG_P | PG_W | PG_U;
	both("mapped");
	*e = (u32)two | PG_P | PG_W | PG_U;
	invlpg(VA);
	both("moved");
	say("%08x %08x\n", *one, *two);
	*e &= ~PG_W;
	invlpg(VA);
	both("read-only");
	*e |= PG_W;
	invlpg(VA);
	both("writable again");
	*e &= ~PG_U;
	invlpg(VA);
	both("the kernel's");
	*e |= PG_U;
	pd[VA >> 22] &= ~PG_W;
	invlpg(VA);
	both("directory read-only");
	pd[VA >> 22] |= PG_W;
	*e &= ~PG_P;
	invlpg(VA);
	both("unmapped");
	*e |= PG_P;
	both("back");
	other = page();
	*two = 0x22222222;
	other[VA >> 12 & 1023] = (u32)one | PG_P | PG_W | PG_U;
	pd[VA >> 22] = (u32)other | PG_P | PG_W | PG_U;
	invlpg(VA);
	both("another table");
	pd[VA >> 22] = 0;
	write_cr3((u32)pd);
	both("no table");
	return 0;
}
