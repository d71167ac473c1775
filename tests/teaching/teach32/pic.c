/* The two 8259s at vectors 20-2F and the 8254's counter 0. */
#include "kernel.h"

volatile u32 ticks, irqs[16];

static void interrupt(struct frame *f)
{
	u32 n = f->vector - IRQ;

	irqs[n]++;
	if (n == 0)
		ticks++;
	if (n >= 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
	if (n == 0)
		process_tick(f);
}

void pic_mask(u16 mask)
{
	outb(0x21, mask);
	outb(0xa1, mask >> 8);
}

void pit_divisor(u32 divisor)
{
	outb(0x43, 0x34);
	outb(0x40, divisor);
	outb(0x40, divisor >> 8);
}

void pic_init(void)
{
	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	outb(0x21, IRQ);
	outb(0xa1, IRQ + 8);
	outb(0x21, 4);
	outb(0xa1, 2);
	outb(0x21, 1);
	outb(0xa1, 1);
	pic_mask(0xffff);
	for (u32 n = 0; n < 16; n++)
		handlers[IRQ + n] = interrupt;
	pit_divisor(1193182 / 100);
}
