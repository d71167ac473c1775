/* Locks as xv6 has them: each asks the local APIC which CPU this is, and what it counts lies beside the descriptor table in use. */
#include "kernel.h"

enum { APIC = 0xfee00000u, APIC_ID = 0x20, ROUNDS = 20000 };

static struct {
	u64 table[SPARE / 8 + SPARES];
	u32 depth, enabled, taken;
} cpu __attribute__((aligned(PAGE)));

static volatile u32 lock, wrong;

static u32 flags(void)
{
	u32 value;

	asm volatile("pushf; pop %0" : "=r"(value));
	return value;
}

/* A place of its own, as lapicid() is. */
static __attribute__((noinline)) u32 number(void)
{
	return *(volatile u32 *)(APIC + APIC_ID) >> 24;
}

static void interrupts_off(void)
{
	u32 before = flags();

	asm volatile("cli" : : : "memory");
	if (cpu.depth++ == 0)
		cpu.enabled = before & INTERRUPTS;
}

static void interrupts_back(void)
{
	if (flags() & INTERRUPTS)
		wrong++;
	if (--cpu.depth == 0 && cpu.enabled)
		asm volatile("sti" : : : "memory");
}

static void acquire(void)
{
	u32 was = 1;

	interrupts_off();
	asm volatile("xchg %0, %1" : "+m"(lock), "+r"(was) : : "memory");
	if (was || number() != 0)
		wrong++;
	cpu.taken++;
}

static void release(void)
{
	if (!lock || number() != 0)
		wrong++;
	lock = 0;
	interrupts_back();
}

static void use(u64 *table)
{
	struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { sizeof cpu.table - 1, (u32)table };

	asm volatile("lgdt %0" : : "m"(pointer));
}

void test_locks(void)
{
	test("locks");
	*page_entry(kernel_directory, APIC, 1) = APIC | PRESENT | WRITE;
	for (u32 i = 0; i < sizeof cpu.table / sizeof *cpu.table; i++)
		cpu.table[i] = gdt[i];
	use(cpu.table);
	pic_mask(0xfffe);
	asm volatile("sti");
	for (u32 i = 0; i < ROUNDS; i++) {
		acquire();
		/* One in the other. */
		interrupts_off();
		interrupts_back();
		release();
	}
	asm volatile("cli");
	pic_mask(0xffff);
	use(gdt);
	want("taken", cpu.taken, ROUNDS);
	want("wrong", wrong, 0);
}
