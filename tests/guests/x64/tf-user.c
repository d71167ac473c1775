/* TF in user code of both sizes: a trap after each instruction, also after those that a kernel would emulate, SYSCALL and POPF that clear it
 * (SDM 3, 18.3.1.4). */
#include "../lib64/rt.h"

static u64 start;
static u32 steps;
static void step(struct frame *f)
{
	say(" +%lu", f->rip - start);
	if (!(read_dr6() & 1 << 14) || !(f->rflags & F_TF) || (read_flags() & F_TF))
		say("(dr6 %lx rflags %lx)", read_dr6() & 0xe00f, f->rflags & F_SYSTEM);
	write_dr6(0xffff0ff0);
	steps++;
}

CODE(plain, "nop; mov $1, %eax; jmp 1f; ud2; 1: inc %eax; push %rax; pop %rbx; lea 1b(%rip), %rcx; pushfq; pop %rdx; mov %cs, %esi; movabs $1, %r8; cpuid; call 2f; jmp 3f; 2: ret; 3: pushfq; andl $~0x100, (%rsp); popfq; nop; nop");
CODE(fsbase, "mov %ds, %eax; mov %eax, %ds; mov %fs, %eax; sgdt -32(%rsp); smsw %eax; nop; pushfq; andl $~0x100, (%rsp); popfq; nop");
CODE32(plain32, "nop; mov $1, %eax; inc %eax; push %eax; pop %ebx; pushf; pop %edx; push %cs; pop %esi; push %ds; pop %ds; nop; pushf; andl $~0x100, (%esp); popf; nop");
CODE(system_call, "nop; syscall; nop; nop; pushfq; andl $~0x100, (%rsp); popfq; nop");
asm(".text\nsyscall_entry: sysretq");
extern char syscall_entry[];

static void show(const char *name, const void *code, int compat)
{
	struct try t;

	start = low(code);
	fresh(&t);
	t.r.rflags = F_TF | 2;
	t.r.rax = 0;
	(compat ? go32 : go3)(name, code, &t);
	say(" tf %lu\n", t.r.rflags >> 8 & 1);
}

int main(void)
{
	on(1, step);
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)syscall_entry);
	wrmsr(MSR_SFMASK, F_TF | F_IF | F_DF);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	show("plain", plain, 0);
	show("sensitive", fsbase, 0);
	show("compat", plain32, 1);
	show("syscall", system_call, 0);
	say("%u steps\n", steps);
	return 0;
}
