/* The kernel exchanges its GS base for the program's by SWAPGS and goes back by SYSRETQ; the program's next instruction is an INT n or a page fault, which
 * may be interrupted while it is delivered (SDM 2, SWAPGS; SDM 3, 6.14). Whatever comes in between, the kernel must find its own base behind the next SWAPGS. */
#include "../lib64/rt.h"

enum { ROUNDS = 600 };
extern char entry_gs[];
static u64 own[2], foreign[2];
static volatile u64 bad, calls, faults, ticks, nmis;
static u64 *root;
static const u64 hole = 0x00007f1234560000;

asm(".text\nentry_gs: nop; nop; nop; swapgs; nop; nop; nop; incq %gs:8; nop; nop; nop; nop; nop; nop; nop; nop; swapgs; nop; nop; nop; nop; nop; nop; sysretq");
CODE(calling, "1: syscall; int $0x80; dec %r13d; jnz 1b");
CODE(faulting, "mov 4096(%rbx), %rax; 1: syscall; mov (%rbx), %rax; dec %r13d; jnz 1b");

static void int80(struct frame *f)
{
	if ((f->cs & 3) != 3)
		bad++;
	calls++;
}

static void fault(struct frame *f)
{
	faults++;
	if ((f->cs & 3) != 3 || read_cr2() != hole || f->error != 4)
		bad++;
	/* Past the load, which is three bytes long. */
	f->rip += 3;
}

static void tick(struct frame *f)
{
	(void)f;
	ticks++;
	pic_eoi(0);
}

static void nmi(struct frame *f)
{
	(void)f;
	nmis++;
}

static void run(const char *name, const void *code)
{
	struct try t;

	calls = faults = own[1] = foreign[1] = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = ROUNDS;
	t.r.rbx = hole;
	go3(name, code, &t);
	say(" calls %lu faults %lu own %lu foreign %lu bad %lu\n", calls, faults, own[1], foreign[1], bad);
}

int main(void)
{
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	on(14, fault);
	on(0x80, int80);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	on(IRQ_BASE, tick);
	pic_init();
	root = new_root();
	/* The tables are there and in use, the page is not. */
	map(root, hole + 4096, low(page()), PG_P | PG_W | PG_U);
	map(root, hole, low(page()), PG_P | PG_W | PG_U);
	*entry(root, hole, 1) &= ~(u64)PG_P;
	use(root);
	/* FSGSBASE. */
	write_cr4(read_cr4() | 1ul << 16);
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)entry_gs);
	wrmsr(MSR_SFMASK, 0x47700);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_KERNEL_GS_BASE, (u64)own);
	wrmsr(MSR_GS_BASE, (u64)foreign);
	run("int n", calling);
	run("page fault", faulting);
	return 0;
}
