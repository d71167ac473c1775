/* An interrupt comes from compatibility mode and IRETQ goes back there, and on to 64-bit code of the same program by a far jump and a far return
 * (SDM 2, IRET, JMP; SDM 3, 5.8.1). */
#include "../lib64/rt.h"

static u64 seen_cs[4], seen_rsp[4];
static u32 seen;
CODE32(there, "mov $0x80000001, %eax; mov %esp, %ebp; int $0x80; ljmp $0x2b, $1f - KBASE\n.code64\n1: mov $0x1122334455667788, %rbx; int $0x80;"
       "mov %rsp, %r12; sub $8, %rsp; movl $0x1b, 4(%rsp); movl $2f - KBASE, (%rsp); lretl\n.code32\n2: int $0x80; mov %cs, %ecx; push $0x2b; push $3f - KBASE; lret\n"
       ".code64\n3: mov %cs, %edx; int $0x80; pushq $0x1b; lea 4f(%rip), %rax; push %rax; lretq\n.code32\n4: mov $0x33, %eax");

static void int80(struct frame *f)
{
	seen_cs[seen & 3] = f->cs;
	seen_rsp[seen & 3] = f->rsp;
	seen++;
}

int main(void)
{
	struct try t;

	on(0x80, int80);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	for (int round = 0; round < 3; round++) {
		seen = 0;
		fresh(&t);
		go32("there and back", there, &t);
		for (int i = 0; i < 4; i++)
			say(" cs %lx rsp %d\n", seen_cs[i], (int)(seen_rsp[i] - seen_rsp[0]));
		say(" rbx %lx ecx %lx edx %lx eax %lx\n", t.r.rbx, t.r.rcx & 0xffff, t.r.rdx & 0xffff, t.r.rax);
	}
	return 0;
}
