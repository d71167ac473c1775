/* The timer's interrupt arrives through PIC and PIT, only while IF is set, and HLT wakes on it (SDM 3, 6.8.1). */
#include "lib/rt.h"

static volatile u32 ticks;

static void tick(struct frame *f)
{
	ticks++;
	if ((f->cs & 0xffff) != SEL_KCODE || !(f->eflags & F_IF))
		say("bad frame: cs %04x eflags %08x\n", f->cs & 0xffff, f->eflags);
	if (read_flags() & F_IF)
		say("IF is set in the handler\n");
	pic_eoi(0);
}

int main(void)
{
	u32 before;
	u64 end;

	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	pit_start(1000);
	end = rdtsc() + 20000000;
	while (rdtsc() < end)
		;
	check("none while IF is clear", ticks == 0);
	asm volatile("sti; nop; nop; cli" : : : "memory");
	check("the pending one comes with sti", ticks >= 1);
	before = ticks;
	for (int i = 0; i < 10; i++)
		asm volatile("sti; hlt; cli" : : : "memory");
	check("each hlt waits for one", ticks - before >= 10);
	before = ticks;
	sti();
	while (ticks - before < 10) /* no exit of its own: the interrupt must come into running code */
		;
	cli();
	check("running code is interrupted", 1);
	pit_stop();
	return 0;
}
