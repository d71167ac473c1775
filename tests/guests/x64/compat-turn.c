/* SYSCALL of compatibility-mode programs on an AMD CPU, many times over, among those of 64-bit programs and INT n (APM 3, SYSCALL, SYSRET): to CSTAR, with
 * EIP in RCX and the flags in R11, on the program's stack; back by SYSRET and IRETQ, the one and the other. SYSENTER is #UD there. */
#include "../lib64/rt.h"
#include "../lib/ticks.h"

enum { ROUNDS = 300 };
extern char compat_entry[], long_entry[];
char enter_stack[4096] __attribute__((aligned(16)));
u64 enter_rsp, compat_calls, long_calls, sums[2];
static volatile u64 ints;

/* Both go back by SYSRET or by IRETQ, as EAX, which counts up, is even or odd. */
asm(".text\ncompat_entry: mov %rsp, enter_rsp(%rip); lea enter_stack+4096(%rip), %rsp; pushfq; pop %rdx; incq compat_calls(%rip); inc %eax; lea sums(%rip), %r8; xor %r9d, %r9d; call 9f;"
    "test $1, %al; jz 2f; pushq $0x23; pushq enter_rsp(%rip); push %r11; pushq $0x1b; push %rcx; nop; nop; nop; nop; iretq; 2: mov enter_rsp(%rip), %rsp; nop; nop; nop; sysretl;"
    "long_entry: mov %rsp, enter_rsp(%rip); lea enter_stack+4096(%rip), %rsp; pushfq; pop %rdx; incq long_calls(%rip); inc %eax; lea sums(%rip), %r8; mov $1, %r9d; call 9f;"
    "test $1, %al; jz 2f; pushq $0x23; pushq enter_rsp(%rip); push %r11; pushq $0x2b; push %rcx; nop; nop; nop; nop; iretq; 2: mov enter_rsp(%rip), %rsp; nop; nop; nop; sysretq;"
    /* RCX, R11 but for AF, RSP and those of the kernel's flags that TCG does not lose (x64-syscall-flags). */
    "9: mov (%r8,%r9,8), %r10; imul $0x1000193, %r10, %r10; xor %rcx, %r10; imul $0x1000193, %r10, %r10; mov %r11, %rsi; and $~0x10, %rsi; xor %rsi, %r10; imul $0x1000193, %r10, %r10;"
    "and $~0xcd5, %rdx; xor %rdx, %r10; imul $0x1000193, %r10, %r10; xor enter_rsp(%rip), %r10; mov %cs, %edx; imul $0x1000193, %r10, %r10; xor %rdx, %r10; mov %r10, (%r8,%r9,8); ret");

CODE32(loop32,
       "xor %edi, %edi; 1: mov %ebx, %eax; and $0x40, %eax; shl $15, %eax; mov %ebx, %ecx; and $0x80, %ecx; shl $3, %ecx; lea 0x203(%eax,%ecx), %eax; push %eax; popf; mov %esp, %ebp; mov %ebx, %eax;"
       "stc; syscall; jc 4f; inc %edi; 4: cmp %esp, %ebp; je 4f; inc %edi; 4: lea -1(%eax), %edx; cmp %edx, %ebx; je 4f; inc %edi; 4: mov %cs, %edx; cmp $0x1b, %edx; je 4f; inc %edi; 4:"
       "mov %ss, %edx; cmp $0x23, %edx; je 4f; inc %edi; 4: mov %ebx, %eax; int $0x80; dec %ebx; jnz 1b; push $0x202; popf");
CODE(loop64, "xor %r12d, %r12d; 1: mov %rsp, %rbp; mov %r13d, %eax; stc; syscall; jc 4f; inc %r12; 4: cmp %rsp, %rbp; je 4f; inc %r12; 4: mov %cs, %edx; cmp $0x2b, %edx; je 4f; inc %r12; 4: dec %r13d; jnz 1b");
CODE(enter64, "sysenter");

static void int80(struct frame *f)
{
	ints++;
	if (f->cs != SEL_UCODE32)
		bad++;
}

static void run(const char *name, int (*go)(const char *, const void *, struct try *), const void *code)
{
	struct try t;

	compat_calls = long_calls = ints = sums[0] = sums[1] = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = t.r.rbx = ROUNDS;
	go(name, code, &t);
	say(" compat %lu long %lu ints %lu sums %lx %lx r12 %lx edi %lx\n", compat_calls, long_calls, ints, sums[0], sums[1], go == go32 ? 0 : t.r.r12,
	    go == go32 ? t.r.rdi & 0xffffffff : 0);
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(0x80, int80);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	pic_init();
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)long_entry);
	wrmsr(MSR_CSTAR, (u64)compat_entry);
	wrmsr(MSR_SFMASK, 0x47700);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(0x174, SEL_KCODE);
	wrmsr(0x176, (u64)long_entry);
	run("64", go3, loop64);
	run("compat", go32, loop32);
	run("64", go3, loop64);
	run("compat", go32, loop32);
	go3("sysenter 64", enter64, 0);
	check("nothing bad", bad == 0);
	return 0;
}
