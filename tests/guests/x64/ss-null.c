/* In ring 0 of 64-bit mode SS may be loaded with a null selector, but of RPL 0 only (SDM 2, MOV). */
#include "../lib64/rt.h"

CODE(to_ss, "mov %ecx, %ss; mov %ss, %eax; push %rax; pop %rbx; mov $0x10, %ecx; mov %ecx, %ss");

int main(void)
{
	for (u64 selector = 0; selector < 4; selector++) {
		struct try t;

		fresh(&t);
		t.r.rcx = selector;
		go0("mov ss", to_ss, &t);
		say(" %lu: %lx\n", selector, t.r.rax & 0xffff);
	}
	return 0;
}
