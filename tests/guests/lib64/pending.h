/* A timer interrupt that is surely pending, and where it came in. Included once. */
#include "rt.h"

static u32 irq_count;
static u64 irq_rip, irq_cs, irq_flags;

static void irq_seen(struct frame *f)
{
	irq_count++;
	irq_rip = f->rip;
	irq_cs = f->cs;
	irq_flags = f->rflags;
	pic_eoi(0);
}

static void irq_setup(void)
{
	on(IRQ_BASE, irq_seen);
	pic_init();
	pic_unmask(0);
}

/* With IF clear: one tick of the timer, then wait until the controller has it. */
static void irq_raise(void)
{
	irq_count = 0;
	irq_rip = 0;
	outb(0x43, 0x30); /* mode 0: one rising edge at the end of the count */
	outb(0x40, 0x40);
	outb(0x40, 0);
	do
		outb(0x20, 0x0a); /* read the request register */
	while (!(inb(0x20) & 1));
}

/* Run code with the interrupt pending; say where it came. */
__attribute__((unused)) static void irq_try(const char *name, const char *code, int ring, u32 flags)
{
	struct try t;

	irq_raise();
	fresh(&t);
	t.r.rflags = flags | 2;
	(ring ? go3 : go0)(name, code, &t);
	if (irq_count)
		say(" %u interrupt at +%lu cs %04lx if %lu\n", irq_count, irq_rip - (ring ? low(code) : (u64)code), irq_cs, irq_flags >> 9 & 1);
	else
		say(" none\n");
	sti(); /* take what is left */
	asm volatile("nop; nop");
	cli();
}
