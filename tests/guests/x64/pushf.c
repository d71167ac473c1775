/* PUSHFQ shows the flags the guest set: IF, IOPL, NT, AC, DF, ID and the arithmetic ones (SDM 2, PUSHF). */
#include "../lib64/rt.h"

static void show(const char *what)
{
	say("%s: %016lx\n", what, read_flags() & ~(u64)F_ARITH);
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
		u64 seen;

		/* One piece of asm, so that the compiler never sees DF or NT. */
		asm volatile("push %1; popfq; pushfq; pop %0; pushq $2; popfq" : "=r"(seen) : "r"((u64)bits[i] | 2) : "memory", "cc");
		say("popfq %08x: %016lx\n", bits[i] | 2, seen);
	}
	asm volatile("sti; pushfw; popw %0; cli" : "=r"(word) : : "memory");
	say("16 bits: %04x\n", word & ~F_ARITH);
	return 0;
}
