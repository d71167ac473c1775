/* The stack on which an event of a program arrives, when something is special about it (SDM 3, 6.12, 4.8): pages that are not accessed and not dirty yet, a frame
 * across two of them, at an odd address, on a page that is a page table itself; ESP0 that changes under way. The frames, and A and D. */
#include "lib/rt.h"
#include "lib/ticks.h"

enum { STACK = 0x50010000u, HOLE = 0x40000000u };
static volatile u32 sum, calls, faults;
static u32 *pd, *stack_entry, *below_entry;
static u8 *page_of_stack, *page_below;

/* Both kinds of event EDI times; what the second one finds absent is mapped, and taken away again by the first. */
CODE(loop, "xor %esi, %esi; 1: mov %edi, %eax; mov %esp, %ebp; stc; int $0x80; jc 2f; inc %esi; 2: mov (%ebx), %edx; cmp %esp, %ebp; je 3f; inc %esi; 3: dec %edi; jnz 1b");

static void mix(u32 v)
{
	sum = (sum << 7 | sum >> 25) ^ v;
}

static void note(struct frame *f)
{
	mix((u32)(f + 1)), mix(f->eip), mix(f->esp), mix(f->cs & 0xffff), mix(f->ss & 0xffff), mix(f->error), mix(f->eflags & ~(u32)F_RF);
	if ((u32)(f + 1) != tss->esp0)
		bad++;
}

static u32 top;

static void int80(struct frame *f)
{
	/* try3() has set ESP0 to where it is; the first call puts it where it is to be. */
	if (calls++ == 0) {
		mix(f->eip), mix(f->esp);
		tss->esp0 = top;
	} else {
		note(f);
	}
	*pte(pd, HOLE) &= ~(u32)PG_P;
	invlpg(HOLE);
}

static void fault(struct frame *f)
{
	faults++;
	note(f);
	*pte(pd, HOLE) |= PG_P;
}

static void run(const char *name, const void *code, u32 at)
{
	struct try t;

	calls = faults = sum = 0;
	top = at;
	fresh(&t);
	t.r.eflags = F_IF | 2;
	t.r.edi = 100;
	t.r.ebx = HOLE;
	t.r.esi = 0;
	go3(name, code, &t);
	say(" calls %u faults %u bad %u sum %x differences %x\n", calls, faults, bad, sum, t.r.esi);
	say(" stack %x below %x\n", *stack_entry & 0xfff, *below_entry & 0xfff);
}

int main(void)
{
	pd = identity_map(16, PG_P | PG_W | PG_U);
	page_of_stack = page();
	page_below = page();
	*pte(pd, HOLE) = (u32)page() | PG_P | PG_W | PG_U;
	stack_entry = pte(pd, STACK);
	below_entry = pte(pd, STACK - 4096);
	*stack_entry = (u32)page_of_stack | PG_P | PG_W;
	*below_entry = (u32)page_below | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(14, fault);
	on(2, nmi);
	pic_init();
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3);
	run("plain", loop, STACK + 4096);
	/* A and D are set by the delivery. */
	for (int i = 0; i < 3; i++) {
		*stack_entry &= ~(u32)(PG_A | PG_D);
		*below_entry &= ~(u32)(PG_A | PG_D);
		write_cr3(read_cr3());
		run("not accessed", loop, STACK + 4096);
		/* Two pages: SS and ESP on the upper one. */
		*below_entry &= ~(u32)(PG_A | PG_D);
		write_cr3(read_cr3());
		run("two pages, not accessed", loop, STACK + 8);
		run("at an odd address", loop, STACK + 11);
	}
	/* A page that is a page table, too: that of the hole, of which nothing else is used. */
	*stack_entry = ((u32)pte(pd, HOLE) & ~0xfffu) | PG_P | PG_W;
	invlpg(STACK);
	run("a page table", loop, STACK + 4096 - 8 * 64);
	*stack_entry = (u32)page_of_stack | PG_P | PG_W;
	write_cr3(read_cr3());
	run("plain", loop, STACK + 4096 - 40);
	return 0;
}
