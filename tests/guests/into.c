/* INTO traps through vector 4 when OF is set and does nothing otherwise (SDM 2, INTO). */
#include "lib/rt.h"

CODE(of_clear, "xor %eax, %eax; into; mov $1, %eax");
CODE(of_set, "mov $0x7fffffff, %eax; inc %eax; into; mov $1, %eax");

static u32 at;
static void seen(struct frame *f)
{
	say("#OF at +%u ring %u eflags %08x\n", f->eip - at, f->cs & 3, f->eflags);
}

int main(void)
{
	BOTH(of_clear);
	BOTH(of_set);
	on(4, seen);
	at = (u32)of_set;
	BOTH(of_set);
	set_gate(4, stub(4), GATE_INT | GATE_DPL3);
	BOTH(of_set);
	return 0;
}
