/* CLI and STI change IF, nothing else; ring 3 may only with IOPL 3, in both sizes (SDM 2, CLI, STI). */
#include "../lib64/rt.h"

CODE(cli_, "mov $0x80000000, %eax; add %eax, %eax; cli; pushfq; pop %rdx");
CODE(sti_, "mov $0x80000000, %eax; add %eax, %eax; sti; pushfq; pop %rdx; pushq $2; popfq");
CODE(many, "sti; sti; cli; cli; sti; nop; cli; pushfq; pop %rdx");
CODE(prefixed, "data16 sti; rex.W cli; rex.W sti; .byte 0xf2; sti; pushfq; pop %rdx; .byte 0xf3; cli; cli");
CODE(locked, ".byte 0xf0, 0xfa");
CODE32(cli32, "mov $0x80000000, %eax; add %eax, %eax; cli; pushf; pop %edx");
CODE32(sti32, "mov $0x80000000, %eax; add %eax, %eax; sti; pushf; pop %edx; push $2; popf");

int main(void)
{
	static const u32 flags[] = { 2, 0x1002, 0x2002, 0x3002, 0x3202, 0x202 };
	static const void *const code[] = { cli_, sti_, many, prefixed, locked, cli32, sti32 };
	struct try t;

	pic_init();
	for (int i = 0; i < 7; i++) {
		if (i < 5) {
			fresh(&t);
			go0("ring 0", code[i], &t);
			say(" rflags %08lx\n", t.r.rdx & 0xffffffff);
		}
		for (int j = 0; j < 6; j++) {
			fresh(&t);
			t.r.rflags = flags[j];
			(i < 5 ? go3 : go32)("ring 3", code[i], &t);
			say(" from %08x: rdx %08lx, %08lx\n", flags[j], t.r.rdx & 0xffffffff, t.r.rflags & F_SYSTEM);
		}
	}
	return 0;
}
