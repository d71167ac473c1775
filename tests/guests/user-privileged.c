/* Every privileged instruction is #GP(0) in ring 3 with EIP on it, and nothing has changed (SDM 3, 5.9). */
#include "lib/rt.h"

u32 some_memory[4];
#define ALL(X) \
	X(hlt, "hlt") X(lgdt, "lgdt some_memory") X(lidt, "lidt some_memory") X(lldt, "xor %eax, %eax; lldt %ax") \
	X(ltr, "mov $0x28, %eax; ltr %ax") X(lmsw, "xor %eax, %eax; lmsw %ax") X(clts, "clts") \
	X(rd_cr0, "mov %cr0, %eax") X(rd_cr2, "mov %cr2, %eax") X(rd_cr3, "mov %cr3, %eax") X(rd_cr4, "mov %cr4, %eax") \
	X(wr_cr0, "mov %eax, %cr0") X(wr_cr2, "mov %eax, %cr2") X(wr_cr3, "mov %eax, %cr3") X(wr_cr4, "mov %eax, %cr4") \
	X(rd_dr0, "mov %dr0, %eax") X(rd_dr7, "mov %dr7, %eax") X(wr_dr0, "mov %eax, %dr0") X(wr_dr6, "mov %eax, %dr6") \
	X(invlpg_, "invlpg some_memory") X(rdmsr_, "mov $0x174, %ecx; rdmsr") X(wrmsr_, "mov $0x174, %ecx; wrmsr") \
	X(cli_, "cli") X(sti_, "sti") X(sysexit, "sysexit") X(in_, "inb $0x21, %al") X(out_, "outb %al, $0x21") \
	X(in_dx, "mov $0x21, %edx; inl %dx, %eax") X(insb, "mov $0x21, %edx; mov $some_memory, %edi; insb") \
	X(outsb, "mov $0x21, %edx; mov $some_memory, %esi; rep outsb") X(rdpmc, "xor %ecx, %ecx; rdpmc")
#define X(name, text) CODE(name, text);
ALL(X)
#undef X

int main(void)
{
	struct try t;

#define X(name, text) fresh(&t); go3(#name, name, &t); \
	if (t.vector == 13 && t.r.eax != 0xa0a0a0a0 && t.r.eax != 0 && t.r.eax != 0x28) say(" eax %08x\n", t.r.eax);
	ALL(X)
	say("cr0 %08x\n", read_cr0());
	return 0;
}
