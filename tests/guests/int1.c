/* INT1 (F1) is a trap through vector 1 that asks no gate for its DPL (SDM 2, INT n). */
#include "lib/rt.h"

CODE(icebp, "nop; .byte 0xf1; mov $1, %eax");

static void seen(struct frame *f)
{
	say("#DB at +%u ring %u\n", f->eip - (u32)icebp, f->cs & 3);
}

int main(void)
{
	on(1, seen);
	BOTH(icebp);
	return 0;
}
