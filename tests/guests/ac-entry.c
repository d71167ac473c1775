/* EFLAGS.AC set in ring 3 comes along into the kernel's frame and flags, and is still there after the return (SDM 3, 6.12.1). */
#include "lib/rt.h"

CODE(trap, "push $0x40002; popf; int $0x41; pushf; pop %eax; push $2; popf");
CODE(fault, "push $0x40002; popf; ud2; pushf; pop %eax; push $2; popf");
u32 ac_words[2];

static void seen(struct frame *f)
{
	u32 inside = read_flags();

	/* A misaligned access here is fine: ring 0 is never checked. */
	*(volatile u32 *)((u8 *)ac_words + 1) = 5;
	say(" vector %u: frame AC %u, inside AC %u\n", f->vector, f->eflags >> 18 & 1, inside >> 18 & 1);
	if (f->vector == 6)
		f->eip += 2;
}

int main(void)
{
	struct try t;

	on(0x41, seen);
	on(6, seen);
	set_gate(0x41, stub(0x41), GATE_INT | GATE_DPL3);
	for (int am = 0; am < 2; am++) {
		write_cr0(read_cr0() | (am ? CR0_AM : 0));
		fresh(&t);
		go3("trap", trap, &t);
		say(" after: %08x\n", t.r.eax);
		fresh(&t);
		go3("fault", fault, &t);
		say(" after: %08x\n", t.r.eax);
	}
	return 0;
}
