/* ARPL raises the RPL of its destination to the source's and says so in ZF (SDM 2, ARPL). */
#include "lib/rt.h"

CODE(arpl, "arpl %cx, %ax; pushf; pop %edx");
CODE(arpl_mem, "push %eax; arpl %cx, (%esp); pushf; pop %edx; pop %eax");
CODE(arpl_cs, "push $0x40; push %cs; pop %ecx; arpl %cx, (%esp); pop %eax; pushf; pop %edx");

int main(void)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		for (u32 i = 0; i < 16; i++)
			for (int form = 0; form < 2; form++) {
				fresh(&t);
				t.r.eax = 0xaaaa1230 + (i >> 2);
				t.r.ecx = 0xbbbb5670 + (i & 3);
				(ring ? try3 : try0)(&t, form ? arpl_mem : arpl);
				say("ring %u: %08x by %08x: %s\n", ring, 0xaaaa1230 + (i >> 2), t.r.ecx, t.r.edx & F_ZF ? "raised" : "kept");
				say(" %08x\n", t.r.eax);
			}
		fresh(&t);
		(ring ? go3 : go0)("by own cs", arpl_cs, &t);
		say(" %08x %u\n", t.r.eax, t.r.edx >> 6 & 1);
	}
	return 0;
}
