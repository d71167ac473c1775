/* The two 8259s and channel 0 of the 8254. */
#include "base.h"

static u16 masked = 0xffff;

static void write_masks(void)
{
	outb(0x21, (u8)masked);
	outb(0xa1, (u8)(masked >> 8));
}

void pic_init(void)
{
	outb(0x20, 0x11); /* ICW1: edge, cascade, ICW4 follows */
	outb(0xa0, 0x11);
	outb(0x21, IRQ_BASE);
	outb(0xa1, IRQ_BASE + 8);
	outb(0x21, 4); /* slave on input 2 */
	outb(0xa1, 2);
	outb(0x21, 1); /* 8086 mode, normal end of interrupt */
	outb(0xa1, 1);
	masked = 0xffff;
	write_masks();
}

void pic_unmask(int irq)
{
	masked &= ~(1u << irq);
	if (irq >= 8)
		masked &= ~(1u << 2);
	write_masks();
}

void pic_mask(int irq)
{
	masked |= 1u << irq;
	write_masks();
}

void pic_eoi(int irq)
{
	if (irq >= 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

void pit_start(u32 hz)
{
	u32 divisor = 1193182 / hz;

	outb(0x43, 0x34); /* channel 0, low then high byte, mode 2 */
	outb(0x40, (u8)divisor);
	outb(0x40, (u8)(divisor >> 8));
}

void pit_stop(void)
{
	outb(0x43, 0x30); /* mode 0 and no count: the output stays low */
}
