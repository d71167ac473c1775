/* Linux's way of patching: int3 on the first byte, the tail, the first byte, each with a serialising step, through an alias. */
#include "lib/rt.h"

enum { ALIAS = 0x40000000 };
extern char poked[], poke_target[], poke_end[];
asm(".pushsection .guest,\"ax\"\n.balign 4096\n.globl poked\npoked: mov $1, %eax\n.nops 5\ninc %eax\nret\n"
    ".globl poke_target\npoke_target: add $100, %eax\ninc %eax\nret\npoke_end:\n.balign 4096\n.popsection");

static u32 traps;
static void bp(struct frame *f)
{
	(void)f;
	traps++;
	f->eip += 4; /* over the rest of the instruction being patched */
}

static void serialise(void)
{
	asm volatile("cpuid" : : "a"(0) : "ebx", "ecx", "edx", "memory");
}

static u32 run(void)
{
	struct try t;

	fresh(&t);
	try0(&t, poked);
	return t.r.eax;
}

int main(void)
{
	u8 *a = (u8 *)ALIAS + 5, *text = (u8 *)poked + 5, jump[5] = { 0xe9 }, nop[5];
	u32 *pd = identity_map(16, PG_P), off = 0, on_ = 0, between = 0, same = 1, rounds = 300;

	memcpy(nop, text, 5);
	*(u32 *)(jump + 1) = (u32)(poke_target - (poked + 10));
	for (u32 va = 0x100000; va < 0x1000000; va += 4096)
		*pte(pd, va) |= PG_W;
	*pte(pd, (u32)poked) = ((u32)poked & ~0xfffu) | PG_P; /* the text itself is read-only */
	*pte(pd, ALIAS) = ((u32)poked & ~0xfffu) | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	on(3, bp);
	for (u32 i = 0; i < rounds; i++) {
		const u8 *new = i & 1 ? nop : jump;

		a[0] = 0xcc;
		serialise();
		between += run() == 2;
		memcpy(a + 1, new + 1, 4);
		serialise();
		between += run() == 2;
		a[0] = new[0];
		serialise();
		same &= !memcmp(text, new, 5);
		if (i & 1)
			off += run() == 2;
		else
			on_ += run() == 102;
	}
	say("jumped %u, fell through %u, trapped %u of %u\n", on_, off, traps, between);
	check("the text reads as written", same);
	return 0;
}
