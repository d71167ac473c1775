/* INT n of a 64-bit program whose kernel exchanges GS bases on its way in and out, many times over (SDM 2, SWAPGS), with CR4.FSGSBASE and without: whatever
 * interrupts it where, and though each comes on another stack, both find their own. */
#include "../lib64/rt.h"

enum { ROUNDS = 500, STACKS = 128 };
char stacks[STACKS][4096] __attribute__((aligned(4096)));
extern char int_entry[];
u64 kernel_area[4];
static u64 user_area[4] USER;
static volatile u64 bad, ticks, nmis;

asm(".text\nint_entry: swapgs; incq %gs:8; push %rax; mov %gs:0, %rax; cmp kernel_magic(%rip), %rax; je 1f; incq %gs:16; 1: mov %gs:8, %rax; push %rcx; imul $7, %eax, %eax; and $127, %eax; shl $12, %eax; lea stacks+4096(%rip), %rcx; add %rax, %rcx; mov %rcx, tss_rsp0(%rip); pop %rcx; pop %rax; inc %eax; nop; nop; nop; swapgs; nop; nop; nop; iretq");
u64 kernel_magic = 0x1122334455667788;
CODE(loop64, "xor %r12d, %r12d; xor %r14d, %r14d; 1: mov %r13d, %eax; int $0x80; lea -1(%rax), %edx; cmp %edx, %r13d; je 2f; inc %r12; 2: mov %gs:0, %rdx; cmp %rdx, %rbx; je 2f; inc %r12; 2:"
	     "incq %gs:8; add %gs:24, %r14; dec %r13d; jnz 1b");

static void tick(struct frame *f)
{
	ticks++;
	if (!(f->rflags & F_IF))
		bad++;
	pic_eoi(0);
}

static void nmi(struct frame *f)
{
	(void)f;
	nmis++;
}

int main(void)
{
	struct try t;

	on(IRQ_BASE, tick);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	set_gate(0x80, int_entry, GATE_INT | GATE_DPL3, 0);
	pic_init();
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	kernel_area[0] = kernel_magic;
	user_area[0] = 0x8877665544332211;
	user_area[3] = 3;
	for (int fsgsbase = 1; fsgsbase >= 0; fsgsbase--) {
		write_cr4((read_cr4() & ~(u64)CR4_FSGSBASE) | (fsgsbase ? CR4_FSGSBASE : 0));
		wrmsr(MSR_GS_BASE, low(user_area));
		wrmsr(MSR_KERNEL_GS_BASE, (u64)kernel_area);
		kernel_area[1] = kernel_area[2] = user_area[1] = 0;
		fresh(&t);
		t.r.rflags |= F_IF;
		t.r.r13 = ROUNDS;
		t.r.rbx = user_area[0];
		go3(fsgsbase ? "fsgsbase" : "msr", loop64, &t);
		say(" r12 %lx r14 %lx kernel %lu %lu user %lu gs %s %s\n", t.r.r12, t.r.r14, kernel_area[1], kernel_area[2], user_area[1],
		    rdmsr(MSR_GS_BASE) == low(user_area) ? "user" : "WRONG", rdmsr(MSR_KERNEL_GS_BASE) == (u64)kernel_area ? "kernel" : "WRONG");
		wrmsr(MSR_GS_BASE, 0);
	}
	check("nothing bad", bad == 0);
	return 0;
}
