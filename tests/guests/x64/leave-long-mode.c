/* Out of long mode and in again: compatibility code in ring 0, paging off, EFER.LME off, protected mode, and back; all is
 * as it was (SDM 3, 10.8.5.4). */
#include "../lib64/rt.h"

u32 seen[8];
CODE(user_code, "mov %cs, %eax");
void leave(void);
/* Runs at its low address while paging is off. */
asm(".text\n.globl leave\nleave: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; mov %rsp, saved_rsp; mov $1f - 0xffffffff80000000, %eax; movl %eax, leave_to;"
    "movl $0x50, leave_to+4; ljmp *leave_to\n"
    ".code32\n1: mov %cs, seen - K; mov $0x10, %eax; mov %eax, %ss; mov %eax, %ds; mov $0x71000, %esp; push $0x12345678; pop seen - K + 4;"
    "mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0; jmp 2f; 2: mov $0xc0000080, %ecx; rdmsr; mov %eax, seen - K + 8; and $~0x100, %eax; wrmsr; rdmsr; mov %eax, seen - K + 12;"
    "mov %cr4, %eax; and $~0x20, %eax; mov %eax, %cr4; mov %cr0, %eax; mov %eax, seen - K + 16; pushf; pop seen - K + 20; sgdt seen - K + 24;"
    /* And back. */
    "mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4; mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr; mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0;"
    "ljmp $8, $3f - K\n.code64\n3: mov $4f, %rax; jmp *%rax; 4: mov saved_rsp, %rsp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
    ".set K, 0xffffffff80000000\n.data\nsaved_rsp: .quad 0\nleave_to: .quad 0\n.text");

int main(void)
{
	struct dtr after;

	for (int i = 0; i < 5; i++) {
		memset(seen, 0, sizeof seen);
		leave();
		say("compat cs %x stack %x efer %x %x cr0 %x eflags %x gdt limit %x\n", seen[0] & 0xffff, seen[1], seen[2], seen[3], seen[4],
		    seen[5] & ~F_ARITH, seen[6] & 0xffff);
		say("back: efer %lx cr0 %lx cr4 %lx\n", rdmsr(MSR_EFER), read_cr0(), read_cr4());
		asm volatile("sgdt %0" : "=m"(after));
		say("gdt limit %x\n", after.limit);
		load_gdt();
		load_idt();
		go3("ring 3 works", user_code, 0);
	}
	return 0;
}
