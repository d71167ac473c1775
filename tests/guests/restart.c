/* A string instruction that faults midway shows how far it came, and goes on from there (SDM 1, 7.3.9; SDM 2, REP). */
#include "lib/rt.h"

CODE(movs, "cld; rep movsb");
CODE(movs_long, "cld; rep movsl");
CODE(stos, "cld; rep stosl");
CODE(cmps, "cld; repe cmpsb");
CODE(scas, "cld; xor %eax, %eax; repe scasb");
CODE(lods, "cld; rep lodsb");
CODE(down, "std; rep movsb; cld");

static void show(const char *name, const void *code, u32 esi, u32 edi, u32 ecx)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		t.r.esi = esi;
		t.r.edi = edi;
		t.r.ecx = ecx;
		(ring ? go3 : go0)(name, code, &t);
		say(" ring %u esi %08x edi %08x ecx %x eax %08x df %u\n", ring, t.r.esi, t.r.edi, t.r.ecx, t.r.eax, t.r.eflags >> 10 & 1);
	}
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U), *data = page();

	*pte(pd, 0x40000000) = (u32)data | PG_P | PG_W | PG_U; /* one page; 0x3ffff000 and 0x40001000 are absent */
	*pte(pd, 0x40008000) = (u32)page() | PG_P | PG_W | PG_U;
	*pte(pd, 0x40009000) = (u32)page() | PG_P | PG_W | PG_U;
	paging_on(pd, CR0_WP);
	show("movsb from", movs, 0x40000ff0, 0x40008000, 100);
	show("movsb to", movs, 0x40008000, 0x40000ff0, 100);
	show("movsl to", movs_long, 0x40008000, 0x40000ff4, 100);
	show("movsl across", movs_long, 0x40008000, 0x40000ff6, 100);
	show("stosl", stos, 0, 0x40000ff4, 100);
	show("cmpsb", cmps, 0x40000ff0, 0x40008000, 100);
	show("scasb", scas, 0, 0x40000ff8, 100);
	show("lodsb", lods, 0x40000ff8, 0, 100);
	show("movsb down", down, 0x40000007, 0x40008100, 100);
	return 0;
}
