/* An interrupt in ring 3 switches to the TSS's stack and returns to where it was, with all registers (SDM 3, 6.12.1). */
#include "lib/rt.h"

static volatile u32 ticks;
static u32 bad;
extern char loop3[], loop3_end[];

static void tick(struct frame *f)
{
	pic_eoi(0);
	ticks++;
	if ((f->cs & 0xffff) != SEL_UCODE || (f->ss & 0xffff) != SEL_UDATA || (f->ds & 0xffff) != SEL_UDATA || !(f->eflags & F_IF) ||
	    f->eip < (u32)loop3 || f->eip >= (u32)loop3_end || (u32)(f + 1) != tss->esp0)
		bad++;
	if (ticks >= 20)
		f->eip = (u32)loop3_end - 1; /* its ret */
}

/* Only EAX changes; flags come from the loop itself. */
CODE(loop3, "1: inc %eax; jmp 1b; nop");

int main(void)
{
	struct try t;

	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	pit_start(1000);
	fresh(&t);
	t.r.eflags = F_IF | 2;
	go3("loop", loop3, &t);
	pit_stop();
	say("ebx %08x ecx %08x edx %08x esi %08x edi %08x ebp %08x\n", t.r.ebx, t.r.ecx, t.r.edx, t.r.esi, t.r.edi, t.r.ebp);
	check("20 ticks", ticks >= 20); /* ticks that were late come one right after the other */
	check("frames right", bad == 0);
	return 0;
}
