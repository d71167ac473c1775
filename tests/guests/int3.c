/* INT3 is a trap through vector 3: EIP after it; ring 3 needs a gate of DPL 3 (SDM 2, INT n). */
#include "lib/rt.h"

CODE(bp, "nop; int3; mov $1, %eax");
CODE(bp_prefixed, "data16 int3; mov $1, %eax");

static u32 at;
static void seen(struct frame *f)
{
	say("#BP at +%u ring %u\n", f->eip - at, f->cs & 3);
}

static void both(const char *name, const void *code)
{
	struct try t;

	at = (u32)code;
	fresh(&t);
	go0(name, code, &t);
	say(" eax %x\n", t.r.eax);
	fresh(&t);
	go3(name, code, &t);
	say(" eax %x\n", t.r.eax);
}

int main(void)
{
	both("no handler", bp);
	on(3, seen);
	both("gate of DPL 0", bp);
	set_gate(3, stub(3), GATE_INT | GATE_DPL3);
	both("gate of DPL 3", bp);
	both("prefixed", bp_prefixed);
	return 0;
}
