/* POPF at CPL0 sets IF, IOPL, NT, AC, ID, DF; VM is ignored; 16-bit POPF leaves the upper half (SDM 2, POPF). */
#include "lib/rt.h"

static const u32 bits[] = { 2, F_IF, 0x1000, 0x2000, F_IOPL, F_NT, F_AC, F_ID, F_DF, F_VM, F_RF, 0x8, 0x20, 0x8000, 0xffbc8eff, 0 };

int main(void)
{
	u32 seen, seen2;

	pic_init(); /* so that IF may be set */
	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
		asm volatile("push %1; popf; pushf; pop %0; push $2; popf" : "=&r"(seen) : "r"(bits[i] & ~F_TF) : "memory", "cc");
		say("popf %08x: %08x\n", bits[i] & ~F_TF, seen);
	}
	for (u32 i = 0; i < 8; i++) {
		u16 low = (u16)(bits[i] & ~F_TF);

		asm volatile("push %2; popf; pushw %w3; popfw; pushf; pop %0; push $2; popf; pushf; pop %1"
			     : "=&r"(seen), "=&r"(seen2) : "r"(F_AC | F_ID), "r"(low) : "memory", "cc");
		say("popfw %04x over AC ID: %08x then %08x\n", low, seen, seen2);
	}
	return 0;
}
