/* POPFQ at CPL 0 sets IF, IOPL, NT, AC, ID, DF; VM and the upper half are ignored; 16 bits leave the rest; in ring 3 IOPL and IF stay
 * (SDM 2, POPF). */
#include "../lib64/rt.h"

static const u64 bits[] = { 2, F_IF, 0x1000, 0x2000, F_IOPL, F_NT, F_AC, F_ID, F_DF, F_RF, 0x8, 0x20, 0x8000, 0xffa4feff, 0 };
CODE(user, "push %rbx; popfq; pushfq; pop %rcx; pushq $2; popfq");
CODE(user16, "pushw %bx; popfw; pushfq; pop %rcx; pushq $2; popfq");
CODE32(user32, "push %ebx; popf; pushf; pop %ecx; push $2; popf");

int main(void)
{
	u64 seen, seen2;

	pic_init(); /* so that IF may be set */
	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
		asm volatile("push %1; popfq; pushfq; pop %0; pushq $2; popfq" : "=&r"(seen) : "r"(bits[i] & ~(u64)F_TF) : "memory", "cc");
		say("popfq %08lx: %016lx\n", bits[i] & ~(u64)F_TF, seen);
	}
	for (u32 i = 0; i < 8; i++) {
		u16 word = (u16)(bits[i] & ~(u64)F_TF);

		asm volatile("push %2; popfq; pushw %w3; popfw; pushfq; pop %0; pushq $2; popfq; pushfq; pop %1"
			     : "=&r"(seen), "=&r"(seen2) : "r"((u64)F_AC | F_ID), "r"(word) : "memory", "cc");
		say("popfw %04x over AC ID: %08lx then %08lx\n", word, seen, seen2);
	}
	for (int iopl = 0; iopl < 4; iopl += 3)
		for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
			struct try t;

			say("ring 3 iopl %d popf %08lx:", iopl, bits[i] & ~(u64)F_TF);
			for (int form = 0; form < 3; form++) {
				fresh(&t);
				t.r.rflags = iopl << 12 | F_IF | 2;
				t.r.rbx = bits[i] & ~(u64)F_TF;
				(form == 2 ? try32 : try3)(&t, form == 0 ? user : form == 1 ? user16 : user32);
				say(" %06lx", t.r.rcx & 0xffffffff);
			}
			say("\n");
		}
	return 0;
}
