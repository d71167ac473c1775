/* PUSHF shows the flags the guest set: IF, IOPL, NT, AC, DF, ID and the arithmetic ones (SDM 2, PUSHF). */
#include "lib/rt.h"

static void show(const char *what)
{
	say("%s: %08x\n", what, read_flags());
}

int main(void)
{
	static const u32 bits[] = { F_CF, F_PF, F_AF, F_ZF, F_SF, F_DF, F_OF, 0x1000, 0x2000, F_IOPL, F_NT, F_AC, F_ID };
	u16 word;

	pic_init();
	write_flags(2);
	show("clear");
	sti();
	show("sti");
	cli();
	show("cli");
	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
		u32 seen;

		/* One piece of asm, so that the compiler never sees DF or NT. */
		asm volatile("push %1; popf; pushf; pop %0; push $2; popf" : "=r"(seen) : "r"(bits[i] | 2) : "memory", "cc");
		say("popf %08x: %08x\n", bits[i] | 2, seen);
	}
	asm volatile("sti; pushfw; popw %0; cli" : "=r"(word) : : "memory");
	say("16 bits: %04x\n", word & ~F_ARITH);
	return 0;
}
