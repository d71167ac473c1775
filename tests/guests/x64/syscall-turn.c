/* System calls of programs that run as kernels run theirs, with interrupts on (SDM 2, SYSCALL): flags, RCX, R11, selectors and stack of each. */
#include "../lib64/rt.h"

enum { ROUNDS = 600 };
extern char entry_turn[], entry_nested[];
static char stack[4096] __attribute__((aligned(16)));
static volatile u64 bad, ticks, nmis, steps;
u64 area[2], calls, seen_on, seen_off, nested_rcx, nested_r11;
/* What the kernel finds: which flags are ever on, which ever off; CS and SS; the program's DS. */
asm(".text\nentry_turn: swapgs; mov %rsp, %gs:8; mov %gs:0, %rsp; push %r11; push %rcx; pushfq; pop %rax; or %rax, seen_on; not %rax; or %rax, seen_off;"
    "incq calls; mov %cs, %eax; mov %ss, %ecx; mov %ds, %edx; shl $16, %ecx; or %ecx, %eax; shl $32, %rdx; or %rdx, %rax;"
    "pop %rcx; pop %r11; mov %gs:8, %rsp; swapgs; sysretq");
/* A kernel that makes a system call itself. */
asm("entry_nested: mov %rcx, %r8; mov %r11, %r9; lea 1f(%rip), %rax; mov $0xc0000082, %ecx; mov %rax, %rdx; shr $32, %rdx; wrmsr; syscall; 2: ud2;"
    "1: mov %rcx, nested_rcx; lea 2b(%rip), %rax; sub %rax, nested_rcx; mov %r11, nested_r11; mov %r8, %rcx; mov %r9, %r11; sysretq");
CODE(loop_code, "xor %edi, %edi; xor %ebx, %ebx; xor %r14d, %r14d; xor %r12d, %r12d; 1: lea -64(%rsp), %rsp; test $1, %edi; jz 2f; std; 2: stc; mov %rsp, %rbp;"
    "3: syscall; 4: cmp %rsp, %rbp; je 5f; inc %r12; 5: lea 4b(%rip), %rsi; cmp %rsi, %rcx; je 6f; inc %r12; 6: cld; lea 64(%rsp), %rsp; add %rax, %rbx;"
    "rol $1, %r14; xor %r11, %r14; inc %edi; cmp $600, %edi; jne 1b");
CODE(step_code, "pushfq; orl $0x100, (%rsp); popfq; syscall; nop; nop");
CODE(ac_code, "pushfq; orl $0x40000, (%rsp); popfq; syscall; pushfq; pop %r15; pushfq; andl $~0x40000, (%rsp); popfq");
CODE(null_code, "mov $3, %eax; mov %eax, %ds; rex.W syscall; mov %ds, %r15d; mov $0x23, %ecx; mov %ecx, %ds");
CODE(plain_code, "syscall");

static void tick(struct frame *f)
{
	ticks++;
	if (!(f->rflags & F_IF) || (f->cs & 3) != 3)
		bad++;
	pic_eoi(0);
}

static void nmi(struct frame *f)
{
	(void)f;
	nmis++;
}

static void step(struct frame *f)
{
	steps++;
	f->rflags &= ~(u64)F_TF;
	if ((f->cs & 3) != 3 || !(read_dr6() & 0x4000))
		bad++;
	write_dr6(0xffff0ff0);
}

static void run(const char *name, const void *code)
{
	struct try t;
	u64 before = ticks + nmis;

	calls = seen_on = seen_off = steps = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r12 = t.r.r15 = 0;
	go3(name, code, &t);
	/* An interrupt's IRETQ takes the RPL away (SDM 2, IRET). */
	if (code == null_code) {
		if (before == ticks + nmis && t.r.r15 != 3)
			bad++;
		t.r.r15 = 0;
	}
	say(" calls %lu steps %lu on %lx off %lx\n", calls, steps, seen_on & F_SYSTEM, seen_off & F_SYSTEM);
	say(" rbx %lx r11 %lx r14 %lx r12 %lx r15 %lx back %lx\n", t.r.rbx, t.r.r11, t.r.r14, t.r.r12, t.r.r15, t.r.rflags & F_SYSTEM);
}

int main(void)
{
	on(2, nmi);
	on(1, step);
	on(IRQ_BASE, tick);
	set_gate(2, stub(2), GATE_INT, 1);
	pic_init();
	area[0] = (u64)stack + sizeof stack;
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)entry_turn);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_KERNEL_GS_BASE, (u64)area);
	for (int i = 0; i < 2; i++) {
		wrmsr(MSR_SFMASK, i ? 0x700 : 0x47701);
		run("loop", loop_code);
		run("step", step_code);
		run("ac", ac_code);
		run("null", null_code);
	}
	/* Interrupts stay on, the kernel's own call. */
	wrmsr(MSR_SFMASK, 0x47700);
	wrmsr(MSR_LSTAR, (u64)entry_nested);
	run("nested", plain_code);
	say(" rcx +%lx r11 %lx\n", nested_rcx, nested_r11 & F_SYSTEM);
	wrmsr(MSR_LSTAR, (u64)entry_turn);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_SCE);
	run("off", plain_code);
	check("nothing bad", bad == 0);
	return 0;
}
