/* The 8254 by interrupt, and what the 8259 does with it. */
#include "kernel.h"

void test_timer(void)
{
	test("timer");
	pic_mask(0xfffe);
	asm volatile("sti");
	while (ticks < 10)
		asm volatile("hlt");
	asm volatile("cli");
	want("only the timer", irqs[0] - ticks, 0);
	/* With interrupts off one request waits, however many ticks go by; the mask holds it back, too. */
	outb(0x20, 0x0a);
	while (!(inb(0x20) & 1))
		;
	u32 before = ticks;
	pic_mask(0xffff);
	asm volatile("sti; nop; nop; cli");
	want("masked", ticks, before);
	pic_mask(0xfffe);
	asm volatile("sti");
	while (ticks == before)
		;
	asm volatile("cli");

	test("timer-spin");
	/* A loop without HLT, as the simplest kernels wait. */
	before = ticks;
	asm volatile("sti");
	while (ticks - before < 5)
		;
	asm volatile("cli");

	test("timer-count");
	/* Counter 0 goes down, and counter 2 by the speaker's gate reaches its end. */
	u32 falls = 0, last = 0;
	for (u32 i = 0; i < 50; i++) {
		outb(0x43, 0);
		u32 now = inb(0x40);
		now |= inb(0x40) << 8;
		falls += i && now <= last;
		last = now;
	}
	want("going down", falls > 0, 1);
	outb(0x61, (inb(0x61) & ~2) | 1);
	outb(0x43, 0xb0);
	outb(0x42, 0x00);
	outb(0x42, 0x10);
	want("not yet", inb(0x61) >> 5 & 1, 0);
	while (!(inb(0x61) & 0x20))
		;
	outb(0x61, inb(0x61) & ~3);
	pic_mask(0xffff);
}
