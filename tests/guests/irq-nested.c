/* A handler that opens interrupts is interrupted itself, and both return (SDM 3, 6.8.1). */
#include "lib/rt.h"

static volatile u32 depth, deepest, ticks;
static void tick(struct frame *f)
{
	(void)f;
	ticks++;
	pic_eoi(0);
	if (++depth > deepest)
		deepest = depth;
	if (depth < 3) {
		u32 t = ticks;

		sti();
		while (ticks == t)
			;
		cli();
	}
	depth--;
}

int main(void)
{
	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	pit_start(1000);
	asm volatile("sti; hlt; cli");
	pit_stop();
	say("deepest %u now %u\n", deepest, depth);
	return 0;
}
