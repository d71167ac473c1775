/* Interrupts as fast as they come: the timer at its fastest while work is done, and through the keyboard controller one after the other. */
#include "kernel.h"

static volatile u32 taken;

static void keyboard(struct frame *f)
{
	(void)f;
	inb(0x60);
	taken++;
	outb(0x20, 0x20);
}

static u32 work(u32 n)
{
	u32 a = 1;
	for (u32 i = 0; i < n; i++)
		a = a * 1103515245 + 12345;
	return a;
}

void test_storm(void)
{
	static const u32 divisors[] = { 1193, 119, 20 };
	u32 wanted = work(200000);

	test("storm-timer");
	pic_mask(0xfffe);
	for (u32 i = 0; i < sizeof divisors / sizeof *divisors; i++) {
		u32 before = ticks, wrong = 0, rounds = 0;
		pit_divisor(divisors[i]);
		asm volatile("sti");
		do {
			wrong += work(200000) != wanted;
			rounds++;
		} while (ticks - before < 300);
		asm volatile("cli");
		want("wrong sums", wrong, 0);
		print("divisor %u: 300 ticks\n", divisors[i]);
	}
	pit_divisor(1193182 / 100);

	test("storm-keyboard");
	pic_mask(0xfffd);
	handlers[IRQ + 1] = keyboard;
	while (inb(0x64) & 1)
		inb(0x60);
	outb(0x64, 0x60);
	while (inb(0x64) & 2)
		;
	outb(0x60, 0x21);
	while (inb(0x64) & 2)
		;
	asm volatile("sti");
	for (u32 i = 0; i < 500; i++) {
		u32 before = taken;
		outb(0x64, 0xd2);
		while (inb(0x64) & 2)
			;
		outb(0x60, i);
		while (taken == before)
			;
	}
	asm volatile("cli");
	want("taken", taken, 500);
	pic_mask(0xffff);
}
