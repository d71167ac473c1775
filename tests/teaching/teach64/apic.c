/* The local APIC with its timer and interrupts to itself, the I/O APIC with keyboard and 8254. */
#include "kernel.h"

enum { ID = 0x20, VERSION = 0x30, TPR = 0x80, EOI = 0xb0, SVR = 0xf0, ISR = 0x100, IRR = 0x200, ICR = 0x300, LVT_TIMER = 0x320, LVT0 = 0x350, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0 };

volatile u32 ticks, pit_ticks, keys, self_count, disk_irqs;
static volatile u32 order, last_key;

u32 lapic_read(u32 reg) { return *(volatile u32 *)(u64)(machine.lapic + reg); }
void lapic_write(u32 reg, u32 v) { *(volatile u32 *)(u64)(machine.lapic + reg) = v; }

static u32 ioapic_read(u32 reg)
{
	*(volatile u32 *)(u64)machine.ioapic = reg;
	return *(volatile u32 *)(u64)(machine.ioapic + 16);
}
static void ioapic_write(u32 reg, u32 v)
{
	*(volatile u32 *)(u64)machine.ioapic = reg;
	*(volatile u32 *)(u64)(machine.ioapic + 16) = v;
}

void ioapic_route(u32 pin, u32 entry)
{
	ioapic_write(0x10 + pin * 2 + 1, lapic_read(ID) & 0xff000000);
	ioapic_write(0x10 + pin * 2, entry);
}

void lapic_timer(u32 count, int periodic)
{
	lapic_write(DIVIDE, 0xb);
	lapic_write(LVT_TIMER, TIMER | (periodic ? 0x20000 : 0));
	lapic_write(INITIAL, count);
}

static void timer(struct frame *f) { (void)f; ticks++; lapic_write(EOI, 0); }
static void pit(struct frame *f) { (void)f; pit_ticks++; lapic_write(EOI, 0); }
static void disk(struct frame *f) { (void)f; disk_irqs++; lapic_write(EOI, 0); }
static void spurious(struct frame *f) { (void)f; }
static void keyboard(struct frame *f) { (void)f; last_key = inb(0x60); keys++; lapic_write(EOI, 0); }
static void self(struct frame *f)
{
	self_count++;
	order = order << 4 | (f->vector >> 4);
	lapic_write(EOI, 0);
}

void test_apic(void)
{
	test("lapic");
	/* The 8259s are out of it. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	handlers[TIMER] = timer;
	handlers[PIT] = pit;
	handlers[KEYBOARD] = keyboard;
	handlers[DISK] = disk;
	handlers[SPURIOUS] = spurious;
	for (u32 v = SELF; v < 0xf0; v++)
		handlers[v] = self;
	lapic_write(SVR, 0x100 | SPURIOUS);
	lapic_write(LVT0, 0x10000);
	want("on by its MSR", rdmsr(0x1b) >> 8 & 0xf, 9);
	want("six entries", lapic_read(VERSION) >> 16 & 0xff, 5);

	test("lapic-timer");
	lapic_timer(1000000, 1);
	asm volatile("sti");
	while (ticks < 20)
		asm volatile("hlt");
	asm volatile("cli");
	lapic_timer(0, 1);
	asm volatile("sti; nop; nop; cli");
	u32 before = ticks;
	lapic_timer(1000000, 0);
	want("counts", lapic_read(CURRENT) <= 1000000, 1);
	asm volatile("sti");
	while (ticks == before)
		;
	for (volatile u32 i = 0; i < 100000; i++)
		;
	asm volatile("cli");
	want("once", ticks - before, 1);
	want("at its end", lapic_read(CURRENT), 0);

	test("lapic-priority");
	asm volatile("cli");
	order = 0;
	lapic_write(ICR, 0x40000 | 0x55);
	lapic_write(ICR, 0x40000 | 0x77);
	lapic_write(ICR, 0x40000 | 0x66);
	want("requested", lapic_read(IRR + 0x20) >> 21 & 1, 1);
	asm volatile("sti; nop; nop; nop; nop; cli");
	want("order", order, 0x765);
	/* CR8 holds back what is not above it. */
	order = 0;
	u64 level = 6;
	asm volatile("mov %0, %%cr8" : : "r"(level));
	want("TPR", lapic_read(TPR), 0x60);
	lapic_write(ICR, 0x40000 | 0x67);
	lapic_write(ICR, 0x40000 | 0x71);
	asm volatile("sti; nop; nop; nop; cli");
	want("above", order, 7);
	level = 0;
	asm volatile("sti; mov %0, %%cr8; nop; nop; cli" : : "r"(level));
	want("then", order, 0x76);

	test("lapic-storm");
	before = self_count;
	asm volatile("sti");
	for (u32 i = 0; i < 2000; i++)
		lapic_write(ICR, 0x40000 | (SELF + i % 0x90));
	asm volatile("nop; cli");
	want("taken", self_count - before, 2000);
}

static void type(u8 code)
{
	u32 before = keys;

	while (inb(0x64) & 2)
		;
	outb(0x64, 0xd2);
	while (inb(0x64) & 2)
		;
	outb(0x60, code);
	while (keys == before)
		asm volatile("sti; hlt; cli");
}

void test_ioapic(void)
{
	test("ioapic");
	u32 version = ioapic_read(1);
	want("pins", version >> 16, 23);
	ioapic_route(5, 0x10000 | 0x99);
	want("entry", ioapic_read(0x10 + 10), 0x10099);

	test("ioapic-keyboard");
	while (inb(0x64) & 1)
		inb(0x60);
	outb(0x64, 0x60);
	while (inb(0x64) & 2)
		;
	outb(0x60, 0x61);
	ioapic_route(1, KEYBOARD);
	u32 sum = 0;
	for (u32 i = 1; i < 100; i++) {
		type(i);
		sum += last_key;
	}
	want("sum", sum, 99 * 50);
	want("keys", keys, 99);
	ioapic_route(1, 0x10000);

	test("ioapic-pit");
	outb(0x43, 0x34);
	outb(0x40, 11932 & 0xff);
	outb(0x40, 11932 >> 8);
	ioapic_route(machine.timer_pin, PIT);
	asm volatile("sti");
	while (pit_ticks < 10)
		asm volatile("hlt");
	asm volatile("cli");
	ioapic_route(machine.timer_pin, 0x10000);
	want("local ones", keys, 99);
}
