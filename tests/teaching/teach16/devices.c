/* Timer and keyboard by hooks before the BIOS' own handlers, and A20 in its three ways. */
#include "kernel.h"

static volatile u32 ticks, irqs, keys;
u32 old_8, old_9;
extern u8 hook_1c[], hook_8[], hook_9[];

/* The hooks count and go on to who was there before. */
asm(".text\nhook_1c: incl %cs:ticks\niretw\n"
	"hook_8: incl %cs:irqs\nljmpw *%cs:old_8\n"
	"hook_9: incl %cs:keys\nljmpw *%cs:old_9\n");

void test_timer(void)
{
	u32 old_1c = vector(0x1c);

	test("timer-hooks");
	old_8 = vector(8);
	vector_set(8, here(hook_8));
	vector_set(0x1c, here(hook_1c));
	u16 before = far_word(0x40, 0x6c);
	while (ticks < 5)
		asm volatile("hlt");
	asm volatile("cli");
	want("as many interrupts", irqs - ticks, 0);
	want("as many BIOS ticks", (u16)(far_word(0x40, 0x6c) - before) - ticks, 0);
	asm volatile("sti");
	/* Faster, in the mode that the BIOS uses. */
	outb(0x43, 0x36);
	outb(0x40, 11932 & 0xff);
	outb(0x40, 11932 >> 8);
	u32 from = ticks;
	while (ticks - from < 20)
		;
	outb(0x43, 0x36);
	outb(0x40, 0);
	outb(0x40, 0);
	vector_set(8, old_8);
	vector_set(0x1c, old_1c);
	struct registers r = { .eax = 0 };
	interrupt(0x1a, &r);
	want("midnight not yet", r.eax & 0xff, 0);
}

static void settled(void)
{
	while (inb(0x64) & 2)
		;
}

/* A byte as the keyboard's: IRQ1 follows. */
static void type(u8 code)
{
	u32 before = keys;
	settled();
	outb(0x64, 0xd2);
	settled();
	outb(0x60, code);
	while (keys == before)
		;
}

void test_keyboard(void)
{
	static const u8 typed[] = { 0x2a, 0x23, 0xa3, 0xaa, 0x17, 0x97, 0x1d, 0x2e, 0xae, 0x9d, 0xe0, 0x48, 0xe0, 0xc8, 0x3b, 0xbb, 0x38, 0x1e, 0x9e, 0xb8, 0x1c, 0x9c };
	struct registers r = { 0 };

	test("keyboard");
	old_9 = vector(9);
	vector_set(9, here(hook_9));
	for (u32 i = 0; i < sizeof typed; i++)
		type(typed[i]);
	want("interrupts", keys, sizeof typed);
	print("keys:");
	for (u32 i = 0; i < 16; i++) {
		r.eax = 0x1100;
		interrupt(0x16, &r);
		if (r.flags & 0x40)
			break;
		r.eax = 0x1000;
		interrupt(0x16, &r);
		print(" %x", r.eax & 0xffff);
	}
	put('\n');
	/* Shift held, and gone. */
	type(0x2a);
	r.eax = 0x0200;
	interrupt(0x16, &r);
	want("shift", r.eax & 3, 2);
	type(0xaa);
	r.eax = 0x0200;
	interrupt(0x16, &r);
	want("no shift", r.eax & 3, 0);
	/* A key that the program types itself. */
	r = (struct registers){ .eax = 0x0500, .ecx = 0x1234 };
	interrupt(0x16, &r);
	r.eax = 0;
	interrupt(0x16, &r);
	want("own key", r.eax & 0xffff, 0x1234);
	vector_set(9, old_9);
}

/* 1 if 1 MiB and 0 are the same memory. */
static u32 wraps(void)
{
	u16 before = far_word(0, 0x500), above = far_word(0xffff, 0x510);
	far_word_set(0, 0x500, 0x1234);
	far_word_set(0xffff, 0x510, 0x4321);
	u32 same = far_word(0, 0x500) == 0x4321;
	far_word_set(0xffff, 0x510, above);
	far_word_set(0, 0x500, before);
	return same;
}

static void output_port(u8 value)
{
	asm volatile("cli");
	settled();
	outb(0x64, 0xd1);
	settled();
	outb(0x60, value);
	settled();
	/* A pulse of no line, as the IBM AT's BIOS waits for it. */
	outb(0x64, 0xff);
	settled();
	asm volatile("sti");
}

void test_a20(void)
{
	struct registers r;

	test("a20-port-92");
	outb(0x92, inb(0x92) & 0xfc);
	want("closed", wraps(), 1);
	outb(0x92, (inb(0x92) & 0xfe) | 2);
	want("open", wraps(), 0);
	test("a20-8042");
	output_port(0xdd);
	want("closed", wraps(), 1);
	output_port(0xdf);
	want("open", wraps(), 0);
	test("a20-bios");
	r = (struct registers){ .eax = 0x2400 };
	interrupt(0x15, &r);
	want("disable", (r.flags & 1) << 8 | (r.eax >> 8 & 0xff), 0);
	want("closed", wraps(), 1);
	r.eax = 0x2402;
	interrupt(0x15, &r);
	want("status", r.eax & 0xff, 0);
	r.eax = 0x2401;
	interrupt(0x15, &r);
	want("open", wraps(), 0);
	r.eax = 0x2402;
	interrupt(0x15, &r);
	want("status open", r.eax & 0xff, 1);
	r.eax = 0x2403;
	interrupt(0x15, &r);
	print("a20 support: %x\n", r.ebx & 0xffff);
}
