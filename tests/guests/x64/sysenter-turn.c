/* SYSENTER of programs that run as kernels run theirs, many times over (SDM 2, SYSENTER): from compatibility-mode and 64-bit code, with flags, data
 * segments and stack pointers of all kinds, with prefixes, under interrupts; the kernel goes back by SYSRET and by IRETQ. Each must find the
 * CPU as SYSENTER leaves it, and the program as it was. */
#include "../lib64/rt.h"
#include "../lib/ticks.h"

enum { ROUNDS = 300, TLS = 12, OTHER = 20 };
extern char enter[];
char enter_stack[4096] __attribute__((aligned(16)));
u64 enter_calls, enter_bad, enter_sum, enter_rsp, enter_way, enter_cs, enter_ss;
static volatile u64 steps;

/* RDX has the program's address to go back to, RBP its stack pointer. EAX counts up. */
asm(".text\nenter: mov %rsp, enter_rsp(%rip); pushfq; pop %r9; and $~0x10, %r9; lea enter_stack+4096(%rip), %r8; cmp %r8, enter_rsp(%rip); je 1f; incq enter_bad(%rip); 1:"
    "mov %cs, %r8d; mov %r8, enter_cs(%rip); mov %ss, %r8d; mov %r8, enter_ss(%rip); incq enter_calls(%rip); inc %eax;"
    /* The flags, but for AF, which is undefined here and there. */
    "mov enter_sum(%rip), %r8; rol $7, %r8; xor %r9, %r8; mov %r8, enter_sum(%rip);"
    "mov %ds, %r8d; add %r8, enter_sum(%rip); mov %fs, %r8d; add %r8, enter_sum(%rip); mov %gs, %r8d; add %r8, enter_sum(%rip); pushq $2; popfq;"
    "mov enter_way(%rip), %r8d; cmp $1, %r8d; jb 3f; je 4f; cmp $3, %r8d; jb 5f; je 6f; cmp $4, %r8d; je 7f;"
    /* 0 SYSRETL, 1 IRETQ to compatibility code, 2 the same with RF, 3 SYSRETQ, 4 IRETQ to 64-bit code */
    "ud2;"
    "3: mov %rdx, %rcx; mov $0x203, %r11d; mov %rbp, %rsp; nop; nop; nop; sysretl;"
    "4: pushq $0x23; push %rbp; pushq $0x203; pushq $0x1b; push %rdx; nop; nop; nop; nop; iretq;"
    "5: pushq $0x23; push %rbp; pushq $0x10203; pushq $0x1b; push %rdx; nop; nop; nop; nop; iretq;"
    "6: mov %rdx, %rcx; mov $0x203, %r11d; mov %rbp, %rsp; nop; nop; nop; sysretq;"
    "7: pushq $0x23; push %rbp; pushq $0x203; pushq $0x2b; push %rdx; nop; nop; nop; nop; iretq");

/* EBX counts down, EDI counts what is not as it should be, ESI and the lower bits of EBX choose DS, GS and flags. */
CODE32(loop32,
       "xor %edi, %edi; 1: mov $0x23, %ecx; test $1, %bl; jz 2f; mov $0xa3, %ecx; 2: mov %ecx, %ds; mov $0x63, %ecx; test $2, %bl; jz 2f; xor %ecx, %ecx; 2: mov %ecx, %gs;"
       "mov $0x23, %ecx; mov %ecx, %es; mov %ebx, %eax; and $0x1c, %eax; xor $8, %eax; jnz 2f; mov $3, %ecx; mov %ecx, %es; 2:"
       "mov %ebx, %eax; and $0x20, %eax; shl $5, %eax; mov %ebx, %ecx; and $0x40, %ecx; shl $15, %ecx; lea 0x203(%eax,%ecx), %eax;"
       "mov %ebx, %ecx; and $0x2f, %ecx; cmp $0x2b, %ecx; jne 2f; or $0x4000, %eax; 2: cmp $0x2d, %ecx; jne 2f; or $0x40000, %eax; 2: push %eax; popf;"
       "mov %esp, %ebp; mov %ebx, %eax; mov $3f - KBASE, %edx; stc; sysenter; ud2; 3: jc 4f; inc %edi; 4: cmp %esp, %ebp; je 4f; inc %edi; 4:"
       "lea -1(%eax), %ecx; cmp %ecx, %ebx; je 4f; inc %edi; 4: mov %cs, %ecx; cmp $0x1b, %ecx; je 4f; inc %edi; 4: mov %ss, %ecx; cmp $0x23, %ecx; je 4f; inc %edi; 4:"
       "pushf; pop %ecx; and $0x4700, %ecx; cmp $0x200, %ecx; je 4f; inc %edi; 4: mov %ds, %ecx; mov %gs, %eax; add %eax, %ecx; add %ecx, %esi;"
       "mov $0x23, %ecx; mov %ecx, %ds; mov %ecx, %es; dec %ebx; jnz 1b; xor %ecx, %ecx; mov %ecx, %gs");
/* The same with a prefix, which is SYSENTER as well. */
CODE32(prefix32, "xor %edi, %edi; 1: mov %esp, %ebp; mov %ebx, %eax; mov $3f - KBASE, %edx; stc; .byte 0x2e, 0x0f, 0x34; ud2; 3: jc 4f; inc %edi; 4: cmp %esp, %ebp; je 4f; inc %edi; 4: dec %ebx; jnz 1b");
/* With TF, whose step comes at the kernel's first instruction. */
CODE32(step32, "mov %esp, %ebp; mov $3f - KBASE, %edx; pushf; orl $0x100, (%esp); popf; sysenter; ud2; 3: nop; nop");
CODE(loop64,
     "xor %r12d, %r12d; 1: mov $0x23, %ecx; test $1, %r13b; jz 2f; xor %ecx, %ecx; 2: mov %ecx, %ds; mov $0x63, %ecx; test $2, %r13b; jz 2f; mov $0xa3, %ecx; 2: mov %ecx, %fs;"
     "mov %rsp, %rbp; mov %r13d, %eax; lea 3f(%rip), %rdx; stc; sysenter; ud2; 3: jc 4f; inc %r12; 4: cmp %rsp, %rbp; je 4f; inc %r12; 4:"
     "lea -1(%rax), %ecx; cmp %ecx, %r13d; je 4f; inc %r12; 4: mov %cs, %ecx; cmp $0x2b, %ecx; je 4f; inc %r12; 4: dec %r13d; jnz 1b; mov $0x23, %ecx; mov %ecx, %ds; xor %ecx, %ecx; mov %ecx, %fs");

static void step(struct frame *f)
{
	steps++;
	if ((f->cs & 3) == 0 && f->rip != (u64)enter)
		bad++;
	f->rflags &= ~(u64)F_TF;
	write_dr6(0xffff0ff0);
}

static void run(const char *name, int (*go)(const char *, const void *, struct try *), const void *code, u64 way)
{
	struct try t;

	enter_calls = enter_sum = steps = 0;
	enter_way = way;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = t.r.rbx = ROUNDS;
	t.r.rsi = 0;
	go(name, code, &t);
	say(" calls %lu sum %lx cs %lx ss %lx steps %lu r12 %lx edi %lx esi %lx\n", enter_calls, enter_sum, enter_cs, enter_ss, steps, go == go32 ? 0 : t.r.r12,
	    go == go32 ? t.r.rdi & 0xffffffff : 0, go == go32 ? t.r.rsi & 0xffffffff : 0);
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	on(1, step);
	pic_init();
	gdt[TLS] = descriptor(0x1000, 0xfffff, ACC_P | ACC_DPL3 | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	gdt[OTHER] = descriptor(0, 0xfffff, ACC_P | ACC_DPL3 | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	/* Another pair of the kernel's. */
	gdt[13] = gdt[1];
	gdt[14] = gdt[2];
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(0x175, (u64)enter_stack + 4096);
	wrmsr(0x176, (u64)enter);
	for (int odd = 0; odd < 2; odd++) {
		wrmsr(0x174, odd ? 13 * 8 + 1 : SEL_KCODE);
		run("sysretl", go32, loop32, 0);
		run("iretq", go32, loop32, 1);
		run("iretq RF", go32, loop32, 2);
		run("64 sysretq", go3, loop64, 3);
		run("64 iretq", go3, loop64, 4);
		run("prefix", go32, prefix32, 0);
		run("step", go32, step32, 0);
	}
	check("kernel as SYSENTER leaves it", enter_bad == 0);
	check("nothing bad", bad == 0);
	return 0;
}
