/* MOV DR: 64 bits in DR0 to DR3, fixed bits of DR6 and DR7, DR4 and DR5 their aliases, #GP for upper halves of DR6 and DR7, DR8 #UD (SDM 3, 18.2). */
#include "../lib64/rt.h"

CODE(dr_plain, "mov %rbx, %dr0; mov %rcx, %dr1; mov %rdx, %dr2; mov %rsi, %dr3; mov %dr0, %rax; mov %dr1, %r8; mov %dr2, %r9; mov %dr3, %r10; xor %ebx, %ebx; mov %rbx, %dr0; mov %rbx, %dr1; mov %rbx, %dr2; mov %rbx, %dr3");
CODE(dr6, "xor %eax, %eax; mov %rax, %dr6; mov %dr6, %r8; mov $0xe00f, %eax; mov %rax, %dr6; mov %dr6, %r9; mov %dr4, %r10; xor %eax, %eax; mov %rax, %dr6");
CODE(dr7, "xor %eax, %eax; mov %rax, %dr7; mov %dr7, %r8; mov $0xf0300, %eax; mov %rax, %dr7; mov %dr7, %r9; mov %dr5, %r10; xor %eax, %eax; mov %rax, %dr7");
CODE(dr6_high, "mov $0x100000000, %rax; mov %rax, %dr6");
CODE(dr7_high, "mov $0x100000000, %rax; mov %rax, %dr7");
CODE(dr8, ".byte 0x44, 0x0f, 0x21, 0xc0");
CODE32(compat, "mov %dr6, %eax");

static void show(const char *name, const void *code)
{
	struct try t;

	fresh(&t);
	go0(name, code, &t);
	say(" %016lx %016lx %016lx %016lx\n", t.r.rax, t.r.r8, t.r.r9, t.r.r10);
	go3("  in ring 3", code, 0);
}

int main(void)
{
	show("dr0-3", dr_plain);
	show("dr6", dr6);
	show("dr7", dr7);
	show("dr6 high", dr6_high);
	show("dr7 high", dr7_high);
	go0("dr8", dr8, 0);
	go32("compat", compat, 0);
	return 0;
}
