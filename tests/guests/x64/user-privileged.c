/* Every privileged instruction is #GP(0) in ring 3 with RIP on it, in 64 bits and in compatibility mode, and nothing has changed (SDM 3, 5.9). */
#include "../lib64/rt.h"

#define ALL(X) \
	X(hlt, "hlt") X(lgdt, "lgdt (%rsp)") X(lidt, "lidt (%rsp)") X(lldt, "lldt %ax") X(ltr, "ltr %ax") X(lmsw, "lmsw %ax") X(clts, "clts") \
	X(rd_cr0, "mov %cr0, %rax") X(rd_cr2, "mov %cr2, %rax") X(rd_cr3, "mov %cr3, %rax") X(rd_cr4, "mov %cr4, %rax") X(rd_cr8, "mov %cr8, %rax") \
	X(wr_cr0, "mov %rax, %cr0") X(wr_cr2, "mov %rax, %cr2") X(wr_cr3, "mov %rax, %cr3") X(wr_cr4, "mov %rax, %cr4") X(wr_cr8, "mov %rax, %cr8") \
	X(rd_dr0, "mov %dr0, %rax") X(rd_dr7, "mov %dr7, %rax") X(wr_dr0, "mov %rax, %dr0") X(wr_dr6, "mov %rax, %dr6") X(invlpg_, "invlpg (%rsp)") \
	X(rdmsr_, "rdmsr") X(wrmsr_, "wrmsr") X(cli_, "cli") X(sti_, "sti") X(in_, "inb $0x21, %al") X(out_, "outb %al, $0x21") X(insb, "insb") X(outsb, "outsb") \
	X(swapgs_, "swapgs") X(rdpmc, "rdpmc") X(int_dpl0, "int $0x21")
#define ALL32(X) \
	X(hlt32, "hlt") X(lgdt32, "lgdt (%esp)") X(lldt32, "lldt %ax") X(clts32, "clts") X(rd_cr0_32, "mov %cr0, %eax") X(wr_cr3_32, "mov %eax, %cr3") \
	X(rd_dr7_32, "mov %dr7, %eax") X(invlpg32, "invlpg (%esp)") X(rdmsr32, "rdmsr") X(wrmsr32, "wrmsr") X(cli32, "cli") X(sti32, "sti") X(in32, "inb $0x21, %al") \
	X(int32, "int $0x21")
#define X(name, text, ...) CODE(name, text);
ALL(X)
#undef X
#define X(name, text) CODE32(name, text);
ALL32(X)
#undef X

int main(void)
{
	struct try t;
	u64 c0 = read_cr0(), c3 = read_cr3(), c4 = read_cr4();

#define X(name, ...) fresh(&t); go3(#name, name, &t); if (t.r.rax != 0xa0a0a0a0a0a0a0a0) say(" rax %lx\n", t.r.rax);
	ALL(X)
#undef X
#define X(name, ...) go32(#name, name, 0);
	ALL32(X)
	check("nothing changed", c0 == read_cr0() && c3 == read_cr3() && c4 == read_cr4());
	return 0;
}
