/* Returns to programs as kernels make them, many times over (SDM 2, SYSRET and IRET): by SYSRETQ, and by IRETQ with RF, AC, TF, data segments, another
   RCX and R11, the kernel's GS base exchanged by SWAPGS with and without CR4.FSGSBASE. Each must find the program as it was left. */
#include "../lib64/rt.h"

enum { ROUNDS = 400 };
extern char entry_back[];
char back_stack[4096] __attribute__((aligned(16)));
u64 back_rsp, back_area[2], back_calls, back_kinds[16];
static volatile u64 bad, ticks, nmis, steps;

/* EAX: 0, 8 SYSRETQ; 1 IRETQ; 2 with RF; 3 with AC; 4 with TF; 5 SYSRETQ with a program's DS; 6 IRETQ to another stack pointer; 7 SYSRETQ without IF, whose
   program is interpreted. Bit 4: SWAPGS around it. */
asm(".text\nentry_back: mov %rsp, back_rsp(%rip); lea back_stack+4096(%rip), %rsp; cld; incq back_calls(%rip); test $16, %al; jz 1f; swapgs; incq %gs:8; 1:"
    "mov %eax, %edx; and $15, %edx; lea back_kinds(%rip), %r10; incq (%r10,%rdx,8); mov back_rsp(%rip), %r10;"
    "cmp $0, %edx; je 3f; cmp $8, %edx; je 3f; cmp $5, %edx; je 4f; cmp $7, %edx; je 5f;"
    "pushq $0x23; push %r10; push %r11; pushq $0x2b; push %rcx;"
    "cmp $2, %edx; jne 2f; orl $0x10000, 16(%rsp); 2: cmp $3, %edx; jne 2f; orl $0x40000, 16(%rsp); 2: cmp $4, %edx; jne 2f; orl $0x100, 16(%rsp);"
    "2: cmp $6, %edx; jne 2f; subq $8, 24(%rsp); 2: mov $0x1111, %ecx; mov $0x2222, %r11d; test $16, %al; jz 2f; swapgs; 2: nop; nop; nop; nop; iretq;"
    "4: mov $0x23, %edx; mov %edx, %ds; mov %edx, %es; jmp 3f; 5: and $~0x200, %r11d;"
    "3: mov %r10, %rsp; test $16, %al; jz 2f; swapgs; 2: nop; nop; nop; sysretq");
/* R12 counts what is not as it should be. */
CODE(back_code, "xor %r12d, %r12d; xor %r13d, %r13d; 1: mov %rsp, %rbp; mov %r14d, %eax; stc; syscall;"
    "2: pushfq; pop %r15; mov %r14d, %eax; and $15, %eax; cmp $6, %eax; jne 3f; lea 8(%rsp), %rsp; 3: cmp %rsp, %rbp; je 3f; inc %r12; 3:"
    "lea 2b(%rip), %rsi; mov $0x1111, %edi; lea -1(%rax), %edx; cmp $3, %edx; jbe 4f; cmp $6, %eax; je 4f; mov %rsi, %rdi; 4: cmp %rdi, %rcx; je 3f; inc %r12; 3:"
    "test $1, %r15d; jnz 3f; inc %r12; 3: pushfq; andl $~0x40100, (%rsp); orl $0x200, (%rsp); testl $0, (%rsp); popfq; mov %gs, %edx; mov %ds, %esi; inc %r13d; cmp $400, %r13d; jne 1b");

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

static void run(const char *name, u64 kind)
{
	struct try t;

	back_calls = back_area[1] = steps = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r14 = kind;
	go3(name, back_code, &t);
	say(" calls %lu gs %lu steps %lu r12 %lx r13 %lx r15 %lx rsi %lx\n", back_calls, back_area[1], steps, t.r.r12, t.r.r13, t.r.r15 & ~0xffffffff00000000, t.r.rsi & 0xffff);
}

int main(void)
{
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	on(1, step);
	on(IRQ_BASE, tick);
	pic_init();
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)entry_back);
	wrmsr(MSR_SFMASK, 0x47700);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_KERNEL_GS_BASE, (u64)back_area);
	for (int fsgsbase = 0; fsgsbase < 2; fsgsbase++) {
		if (fsgsbase)
			write_cr4(read_cr4() | 1ul << 16);
		for (u64 gs = 0; gs <= 16; gs += 16) {
			run("sysretq", 0 + gs);
			run("iretq", 1 + gs);
			run("iretq RF", 2 + gs);
			run("iretq AC", 3 + gs);
			run("iretq TF", 4 + gs);
			run("sysretq DS", 5 + gs);
			run("iretq RSP", 6 + gs);
			run("sysretq IF", 7 + gs);
			run("sysretq", 8 + gs);
		}
	}
	for (int i = 0; i < 9; i++)
		say("kind %d: %lu\n", i, back_kinds[i]);
	check("nothing bad", bad == 0);
	return 0;
}
