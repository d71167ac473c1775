/* #AC: with CR0.AM and RFLAGS.AC a misaligned access in ring 3, of either size, and never in ring 0 (SDM 3, 6.15). */
#include "../lib64/rt.h"

CODE(touch, "mov 1(%rsp), %rax");
CODE(touch4, "mov 4(%rsp), %rax");
CODE(aligned, "mov 8(%rsp), %rax");
CODE32(touch32, "mov 1(%esp), %eax");

int main(void)
{
	for (int am = 0; am < 2; am++) {
		write_cr0(am ? read_cr0() | CR0_AM : read_cr0() & ~(u64)CR0_AM);
		for (int ac = 0; ac < 2; ac++) {
			static const void *const code[] = { touch, touch4, aligned };
			struct try t;

			say("am %d ac %d\n", am, ac);
			for (int i = 0; i < 3; i++) {
				fresh(&t);
				t.r.rsp &= ~15ul;
				t.r.rflags = (ac ? F_AC : 0) | 2;
				go3("ring 3", code[i], &t);
			}
			fresh(&t);
			t.r.rsp = (t.r.rsp & ~15ul) + 4;
			t.r.rflags = (ac ? F_AC : 0) | 2;
			go32("compat", touch32, &t);
			write_flags(ac ? F_AC : 2);
			go0("ring 0", touch, 0);
		}
	}
	return 0;
}
