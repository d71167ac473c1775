/* Something of everything that makes a VMM step in: hot CLI and STI, INT n from ring 3, page faults of the guest's own, writes to a
 * page table, interrupts, HLT, ports, and memory without anything behind it. tests/trace looks for each of them in a trace; list.cfg does
 * not have it, since what it prints shows nothing new. */
#include "lib/rt.h"

/* Above the memory of every micro-guest and below the I/O APIC: a PC has neither RAM nor a device there. */
#define NOTHING 0xd0000000u
#define WINDOW 0x50000000u
#define PAGES 0x40000000u

static volatile u32 ticks;
static u32 calls, faults, *pd;
static void tick(struct frame *f) { (void)f; ticks++; pic_eoi(0); }
static void call(struct frame *f) { calls++; f->eax = f->ebx + 1; }
static void touch(struct frame *f) { (void)f; faults++; *pte(pd, read_cr2()) |= PG_P; }

CODE(toggle, "mov $40, %ecx; 1: cli; inc %eax; sti; nop; inc %eax; nop; loop 1b; cli");
CODE(in_user, "mov $20, %edi; xor %ebx, %ebx; 1: int $0x80; mov %eax, %ebx; dec %edi; jnz 1b");

int main(void)
{
	struct try t;
	u32 sum = 0;

	pd = identity_map(16, PG_P | PG_W | PG_U);
	*pte(pd, WINDOW) = NOTHING | PG_P | PG_W;
	for (u32 i = 0; i < 8; i++)
		*pte(pd, PAGES + i * 4096) = (u32)page() | PG_W;
	paging_on(pd, CR0_WP);
	on(IRQ_BASE, tick);
	on(14, touch);
	on(0x80, call);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3);
	pic_init();

	fresh(&t);
	t.r.eax = 0;
	go0("cli and sti", toggle, &t);
	say(" %u steps\n", t.r.eax);
	fresh(&t);
	t.r.eflags = F_IF | 2; /* nothing is unmasked yet */
	go3("int 0x80", in_user, &t);
	say(" %u calls, the last gave %u\n", calls, t.r.eax);
	for (u32 i = 0; i < 8; i++) {
		*(volatile u32 *)(PAGES + i * 4096) = i;
		sum += *(volatile u32 *)(PAGES + i * 4096);
	}
	say("%u page faults, sum %u\n", faults, sum);
	*(volatile u32 *)WINDOW = 0x12345678;
	(void)*(volatile u32 *)WINDOW;
	say("nothing at %08x answers, nor complains\n", NOTHING);
	pic_unmask(0);
	pit_start(1000);
	for (int i = 0; i < 5; i++)
		asm volatile("sti; hlt; cli" : : : "memory");
	check("interrupts at HLT", ticks >= 5);
	/* Nothing here makes the VMM step in: these come because an interrupt of the host ends the guest's turn. */
	for (u32 before = ticks; ticks - before < 5;)
		asm volatile("sti; nop; cli" : : : "memory");
	pit_stop();
	check("interrupts at any instruction", ticks >= 10);
	return 0;
}
