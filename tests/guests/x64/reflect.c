/* Page faults of programs that run as kernels run theirs, many times over (SDM 3, 4.7, 6.14, 6.15): at pages that no table entry has present, at every
 * level, with all sorts of other bits in the entry; the kernel maps the page, sees to the entry's neighbours, or takes pages away again, with INVLPG and by
 * a load of CR3; entries that are present and forbid, which become absent and the other way round. The error code, CR2, RIP, flags and stack of each. */
#include "../lib64/rt.h"

enum { PAGES = 24, VA_COUNT = 3 };
static const u64 va[VA_COUNT] = { 0x00007f1234560000, 0x0000008040201000, 0x0000555555554000 };
static u8 *target[PAGES];
static u64 *root, odd = 0;
static volatile u64 bad, ticks, nmis, faults, sum, last_cr2, mode, interrupts;
static volatile u64 kernel_cr2;

/* Reads, writes and calls each of 24 pages from RBX on, R13 times. */
CODE(touch,
     "xor %r12d, %r12d; 1: mov %rbx, %r14; mov $24, %r15d; 2: mov %rsp, %rbp; stc; mov %r13d, %eax; add %r15d, %eax; and $3, %eax; jz 4f; dec %eax; jz 5f; dec %eax; jz 6f;"
     "stc; mov 8(%r14), %rax; jmp 8f; 4: stc; mov %r14, 16(%r14); cmp %r14, 16(%r14); je 8f; inc %r12; jmp 8f; 5: stc; call *%r14; jmp 8f; 6: movq $7, 24(%r14);"
     "8: cmp %rsp, %rbp; je 9f; inc %r12; 9: add $4096, %r14; dec %r15d; jnz 2b; mov %r13d, %eax; int $0x80; sub $1, %eax; cmp %eax, %r13d; je 3f; inc %r12; 3: dec %r13d; jnz 1b");
/* The same with a copy that crosses from page to page. */
CODE(copy, "xor %r12d, %r12d; 1: cld; lea 100(%rbx), %rsi; lea 0x9000(%rbx), %rdi; mov $2500, %ecx; rep movsq; test %ecx, %ecx; jz 2f; inc %r12; 2: mov %r13d, %eax; int $0x80; dec %r13d; jnz 1b");

static void mix(u64 v)
{
	sum = (sum << 7 | sum >> 57) ^ v;
}

static u64 base_of(u64 a)
{
	for (int i = 0; i < VA_COUNT; i++)
		if (a - va[i] < PAGES * 4096ul)
			return va[i];
	return 0;
}

static void fault(struct frame *f)
{
	u64 cr2 = read_cr2(), base = base_of(cr2), flags = read_flags();
	u64 n = (cr2 - base) / 4096;

	if (!(f->cs & 3)) {
		/* The kernel's own, below. */
		kernel_cr2 = cr2;
		f->rip = f->r15;
		last_cr2 = cr2;
		return;
	}
	last_cr2 = cr2;
	faults++;
	if ((flags & (F_IF | F_TF | F_NT | F_DF)) || (u64)(f + 1) != (tss->rsp[0] & ~15ul) || !base || f->ss != SEL_UDATA || f->cs != SEL_UCODE)
		bad++;
	if (!(f->rflags & F_IF))
		bad++;
	mix(f->error), mix(cr2), mix(f->rip), mix(f->rflags & ~(u64)F_RF), mix(f->rsp);
	if (mode == 1 && faults % 5 == 0) {
		/* A fault of the kernel in between changes CR2 (nothing is there). */
		asm volatile("lea 1f(%%rip), %%r15; mov 0xffffffffc0000123, %%al; 1:" : : : "rax", "r15");
		if (read_cr2() != 0xffffffffc0000123)
			bad++;
	}
	if (mode == 2 && (f->error & 1) == 0 && faults % 3 == 0) {
		/* First one that is present and forbids; RF stays to be seen. */
		map(root, cr2, low(target[n]), PG_P | (f->error & 2 ? PG_U : 0));
		return;
	}
	map(root, cr2, low(target[n]), PG_P | PG_W | PG_U | (faults & 1 ? PG_A | PG_D : 0));
	if (f->error & 1)
		invlpg(cr2);
	/* Neighbours, as kernels do it. */
	if (mode == 3)
		for (u64 i = n + 1; i < PAGES && i < n + 4; i++)
			if (!(*entry(root, base + i * 4096, 1) & PG_P))
				map(root, base + i * 4096, low(target[i]), PG_P | PG_U | PG_A);
}

/* Takes pages away, one way or another. */
static void int80(struct frame *f)
{
	u64 base = f->rbx, c = interrupts++;

	f->rax++;
	odd = odd * 6364136223846793005 + 1442695040888963407;
	switch (c % 5) {
	case 0:
	case 1:
		for (u64 i = 0; i < PAGES; i++)
			if (odd >> (i + 20) & 1) {
				/* Anything but P. */
				*entry(root, base + i * 4096, 1) = (odd * (i + 3)) & ~1ul;
				invlpg(base + i * 4096);
			}
		break;
	case 2:
		*entry(root, base, 2) = odd & ~1ul;
		use(root);
		break;
	case 3:
		*entry(root, base, 3) = 0;
		use(root);
		break;
	case 4:
		*entry(root, base, 4) = odd & PG_NX;
		use(root);
		break;
	}
}

static void tick(struct frame *f)
{
	ticks++;
	if (!(f->rflags & F_IF) || read_cr2() != last_cr2)
		bad++;
	pic_eoi(0);
}

static void nmi(struct frame *f)
{
	(void)f;
	nmis++;
}

static void run(const char *name, const void *code, u64 base)
{
	struct try t;

	faults = sum = interrupts = odd = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = 40;
	t.r.rbx = base;
	go3(name, code, &t);
	say(" mode %lu at %lx: faults %lu bad %lu sum %lx r12 %lx\n", mode, base, faults, bad, sum, t.r.r12);
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(14, fault);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	pic_init();
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	root = new_root();
	for (int i = 0; i < PAGES; i++) {
		target[i] = page();
		/* Can be called, read and written. */
		target[i][0] = 0xc3;
	}
	use(root);
	last_cr2 = read_cr2();
	for (mode = 0; mode < 4; mode++)
		for (int i = 0; i < VA_COUNT; i++) {
			run("touch", touch, va[i]);
			run("copy", copy, va[i]);
			for (int n = 0; n < PAGES; n++)
				target[n][0] = 0xc3;
		}
	/* Without NX a fetch is not told apart (SDM 3, 4.7). */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_NXE);
	mode = 4;
	run("touch", touch, va[0]);
	return 0;
}
