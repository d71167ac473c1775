/* IRETQ and IRETD in ring 0 with what TCG does not check: L and D both set; and the 32-bit form,
 * whose stack is at 64 bits all the same (SDM 2, IRET). */
#include "../lib64/rt.h"

CODE(iret64, "mov $1f, %r8; test %rdx, %rdx; cmovz %r8, %rdx; mov %rsp, %rbp; push %rbx; push %rbp; push %rax; push %rcx; push %rdx; iretq; 1: mov $0x10, %eax; mov %eax, %ss");
CODE(iret32, "mov %rsp, %rbp; sub $24, %rsp; movl $0x70000, (%rsp); movl $8, 4(%rsp); movl $2, 8(%rsp); movl $0x70000, 12(%rsp); movl $0x10, 16(%rsp); iretl");
CODE(arrive, "mov %rsp, %rbx; mov %rbp, %rsp");

static void show(const char *name, u64 cs, u64 ss, u64 rip)
{
	struct try t;

	fresh(&t);
	t.r.rax = 2;
	t.r.rcx = cs;
	t.r.rbx = ss;
	t.r.rdx = rip;
	t.code = iret64;
	try0(&t, iret64);
	say("%s: ", name);
	if (t.vector == (u64)-1)
		say("done\n");
	else
		say("%s error %04lx at %s\n", vector_name(t.vector), t.error, t.rip == rip ? "its target" : "the iret");
}

int main(void)
{
	gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_L | FLAG_D);
	show("plain", SEL_KCODE, SEL_KDATA, 0);
	show("null ss", SEL_KCODE, 0, 0);
	show("L and D", SEL_FREE, SEL_KDATA, 0);
	memcpy((void *)0x70000, arrive, (u64)(arrive_end - arrive));
	/* Whether it pops SS and ESP too, Intel and AMD tell differently: what stands there fits both. */
	go0("32 bits", iret32, 0);
	return 0;
}
