/* The PIC: masks, request and service registers, no second interrupt before the end of the first, priorities (8259A data sheet). */
#include "lib/pending.h"

static u8 irr(void) { outb(0x20, 0x0a); return inb(0x20); }
static u8 isr(void) { outb(0x20, 0x0b); return inb(0x20); }
static u32 entered;

static void no_eoi(struct frame *f)
{
	(void)f;
	entered++;
}

int main(void)
{
	irq_setup();
	say("irr %u isr %u mask %02x\n", irr() & 1, isr(), inb(0x21));
	irq_raise();
	say("raised: irr %u isr %u\n", irr() & 1, isr());
	pic_mask(0);
	asm volatile("sti; nop; nop; cli");
	say("masked: %u, irr %u\n", irq_count, irr() & 1);
	pic_unmask(0);
	asm volatile("sti; nop; nop; cli");
	say("unmasked: %u, irr %u isr %u\n", irq_count, irr() & 1, isr());
	on(IRQ_BASE, no_eoi);
	irq_raise();
	asm volatile("sti; nop; nop; cli");
	say("in service: %u, irr %u isr %u\n", entered, irr() & 1, isr());
	irq_raise();
	asm volatile("sti; nop; nop; cli");
	say("not again: %u, irr %u isr %u\n", entered, irr() & 1, isr());
	pic_eoi(0);
	asm volatile("sti; nop; nop; cli");
	say("after the EOI: %u, irr %u isr %u\n", entered, irr() & 1, isr());
	pic_eoi(0);
	say("isr %u mask %02x\n", isr(), inb(0x21));
	return 0;
}
