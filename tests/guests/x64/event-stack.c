/* The stack on which an event of a program arrives, when something is the matter with it (SDM 3, 6.14, 6.15, 4.8): a page that is absent, read-only,
 * not accessed and not dirty yet, a page table itself, two pages of which the lower one is absent; RSP0 that changes under way. The frame, the faults of the
 * delivery, and A and D. */
#include "../lib64/rt.h"
#include "../lib/ticks.h"

#define STACK 0xffffc90000010000ul
static struct tss own_tss __attribute__((aligned(4096)));
static volatile u64 sum, calls, faults, doubles, d_error, d_cr2, pf_error, pf_cr2;
static u64 *root, *stack_entry, *below_entry;
static u8 *page_of_stack, *page_below;
static const u64 hole = 0x00007f1234560000;

/* Both kinds of event R13 times; what the second one finds absent is mapped, and taken away again by the first. */
CODE(loop, "xor %r12d, %r12d; 1: mov %r13d, %eax; mov %rsp, %rbp; stc; int $0x80; jc 2f; inc %r12; 2: mov (%rbx), %r14; cmp %rsp, %rbp; je 3f; inc %r12; 3: dec %r13d; jnz 1b");
CODE(once, "mov $7, %eax; int $0x80");
CODE(touch, "mov (%rbx), %rax");

static void mix(u64 v)
{
	sum = (sum << 7 | sum >> 57) ^ v;
}

static void note(struct frame *f)
{
	mix((u64)(f + 1)), mix(f->rip), mix(f->rsp), mix(f->cs), mix(f->ss), mix(f->error), mix(f->rflags & ~(u64)F_RF);
	if ((u64)(f + 1) != (own_tss.rsp[0] & ~15ul))
		bad++;
}

static void int80(struct frame *f)
{
	calls++;
	note(f);
	*entry(root, hole, 1) &= ~(u64)PG_P;
	invlpg(hole);
}

static void fault(struct frame *f)
{
	if (!(f->cs & 3) || read_cr2() - hole >= 4096) {
		/* Met while an event was delivered. It has an interrupt stack in those cases. */
		faults++;
		pf_error = f->error, pf_cr2 = read_cr2();
		*stack_entry |= PG_P | PG_W, *below_entry |= PG_P | PG_W;
		invlpg(STACK), invlpg(STACK - 4096);
		mix(f->rip), mix(f->cs), mix(f->error), mix(f->rsp);
		return;
	}
	faults++;
	note(f);
	*entry(root, hole, 1) |= PG_P;
}

static void double_fault(struct frame *f)
{
	doubles++;
	d_error = f->error, d_cr2 = read_cr2();
	mix(f->cs), mix(f->ss), mix(f->rsp);
	*stack_entry |= PG_P | PG_W;
	invlpg(STACK);
	*entry(root, hole, 1) |= PG_P;
}

static void run(const char *name, const void *code, u64 top)
{
	struct try t;

	calls = faults = doubles = sum = d_error = d_cr2 = pf_error = pf_cr2 = 0;
	own_tss.rsp[0] = top;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = 100;
	t.r.rbx = hole;
	t.r.r12 = 0;
	go3(name, code, &t);
	say(" calls %lu faults %lu (%lx at %lx) doubles %lu (%lx at %lx) bad %lu sum %lx r12 %lx\n", calls, faults, pf_error, pf_cr2, doubles, d_error, d_cr2, bad, sum, t.r.r12);
	say(" stack %lx below %lx\n", *stack_entry & 0xfff, *below_entry & 0xfff);
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(14, fault);
	on(8, double_fault);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 5);
	pic_init();
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	set_gate(IRQ_BASE, stub(IRQ_BASE), GATE_INT, 2);
	set_gate(VEC_DONE, stub(VEC_DONE), GATE_INT | GATE_DPL3, 3);
	set_gate(8, stub(8), GATE_INT, 1);
	own_tss.iomap = 0xffff;
	for (int i = 0; i < 7; i++)
		own_tss.ist[i] = ist_stack(i + 1);
	root = new_root();
	page_of_stack = page();
	page_below = page();
	map(root, hole, low(page()), PG_P | PG_W | PG_U);
	stack_entry = entry(root, STACK, 1);
	below_entry = entry(root, STACK - 4096, 1);
	*stack_entry = low(page_of_stack) | PG_P | PG_W;
	*below_entry = low(page_below) | PG_P | PG_W;
	use(root);
	own_tss.rsp[0] = STACK + 4096;
	system_descriptor(gdt + SEL_TSS / 8, (u64)&own_tss, 103, 0x89);
	asm volatile("ltr %w0" : : "r"(SEL_TSS));
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	run("plain", loop, STACK + 4096);
	/* A and D are set by the delivery. */
	*stack_entry &= ~(u64)(PG_A | PG_D);
	use(root);
	run("not accessed", once, STACK + 4096);
	/* Two pages: SS and RSP on the upper one. */
	run("two pages", loop, STACK + 16);
	*below_entry &= ~(u64)(PG_A | PG_D);
	use(root);
	run("two pages, not accessed", once, STACK + 16);
	/* An absent stack: #DF for a page fault, #PF for INT n. */
	for (int i = 0; i < 3; i++) {
		*stack_entry &= ~(u64)PG_P;
		invlpg(STACK);
		*entry(root, hole, 1) &= ~(u64)PG_P;
		invlpg(hole);
		run("absent, #PF", touch, STACK + 4096);
		set_gate(14, stub(14), GATE_INT, 4);
		*stack_entry &= ~(u64)PG_P;
		invlpg(STACK);
		run("absent, INT n", once, STACK + 4096);
		*stack_entry &= ~(u64)PG_W;
		invlpg(STACK);
		run("read-only, INT n", once, STACK + 4096);
		*below_entry &= ~(u64)PG_P;
		invlpg(STACK - 4096);
		run("the lower one absent, INT n", once, STACK + 16);
		set_gate(14, stub(14), GATE_INT, 0);
		run("plain", loop, STACK + 4096);
	}
	/* A page that is a page table, too: that of the hole, which no entry of it but that of the hole uses. */
	*stack_entry = (low(entry(root, hole, 1)) & PG_ADDRESS) | PG_P | PG_W;
	invlpg(STACK);
	run("a page table", loop, STACK + 4096 - 8 * 64);
	*stack_entry = low(page_of_stack) | PG_P | PG_W;
	use(root);
	run("plain", loop, STACK + 4096 - 40);
	return 0;
}
