/* CLI and STI change IF, nothing else; ring 3 may only with IOPL 3 (SDM 2, CLI, STI). */
#include "lib/rt.h"

CODE(cli_, "mov $0x80000000, %eax; add %eax, %eax; cli; pushf; pop %edx");
CODE(sti_, "mov $0x80000000, %eax; add %eax, %eax; sti; pushf; pop %edx; push $2; popf");
CODE(many, "sti; sti; cli; cli; sti; nop; cli; pushf; pop %edx");
CODE(prefixed, "data16 sti; .byte 0xf2; sti; .byte 0x2e, 0x67; sti; pushf; pop %edx; .byte 0xf3; cli; cli");
CODE(locked, ".byte 0xf0, 0xfa");

int main(void)
{
	static const u32 flags[] = { 2, 0x1002, 0x2002, 0x3002, 0x3202, 0x202 };
	struct try t;

	pic_init();
	for (int i = 0; i < 5; i++) {
		static const void *const code[] = { cli_, sti_, many, prefixed, locked };

		fresh(&t);
		go0("ring 0", code[i], &t);
		say(" eflags %08x\n", t.r.edx);
		for (int j = 0; j < 6; j++) {
			fresh(&t);
			t.r.eflags = flags[j];
			go3("ring 3", code[i], &t);
			say(" from %08x: edx %08x, %08x\n", flags[j], t.r.edx, t.r.eflags & F_SYSTEM);
		}
	}
	return 0;
}
