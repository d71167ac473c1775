/* A guest that reads its own text, through the executable mapping and an alias, sees its own bytes and nothing of the VMM's. */
#include "lib/rt.h"

enum { ALIAS = 0x40000000 };
extern char own[], own_end[], kept[];
asm(".pushsection .guest,\"ax\"\n.balign 4096\nown: pushf\ncli\nmov %cs, %eax\nsgdt 0x7000\npopf\njmp 1f\n.fill 7, 1, 0x0e\n1: smsw %dx\nstr %cx\nret\nown_end:\n.balign 4096\n.popsection");

static u32 sum(const u8 *p, u32 n)
{
	u32 s = 0;

	while (n--)
		s = (s << 5 | s >> 27) ^ *p++;
	return s;
}

int main(void)
{
	static u8 copy[4096];
	u32 n = (u32)(own_end - own), *pd = identity_map(16, PG_P | PG_W), before;

	memcpy(copy, own, n);
	before = sum((u8 *)own, n);
	*pte(pd, ALIAS) = (u32)own | PG_P;
	paging_on(pd, CR0_WP);
	for (int i = 0; i < 3; i++) {
		struct try t;

		fresh(&t);
		go0("run", own, &t);
		say(" eax %04x edx %04x ecx %04x\n", t.r.eax & 0xffff, t.r.edx & 0xffff, t.r.ecx & 0xffff);
		check("bytes", !memcmp(copy, own, n));
		check("sum", sum((u8 *)own, n) == before);
		check("alias", !memcmp(copy, (void *)ALIAS, n));
		say("%02x %04x %08x\n", *(u8 *)own, *(u16 *)(own + 1), *(u32 *)(own + 1));
	}
	return 0;
}
