/* LMSW sets MP, EM, TS and cannot clear PE; CLTS clears TS (SDM 2, LMSW, CLTS). */
#include "lib/rt.h"

CODE(lmsw, "lmsw %cx; mov %cr0, %eax; clts; mov %cr0, %ebx");
CODE(lmsw_mem, "push %ecx; lmsw (%esp); pop %ecx; mov %cr0, %eax; clts; mov %cr0, %ebx");

int main(void)
{
	struct try t;

	for (u32 v = 0; v < 16; v++) {
		write_cr0(CR0_PE | CR0_ET);
		fresh(&t);
		t.r.ecx = v | 0xffe0fff0 * (v & 1);
		go0("lmsw", v & 4 ? lmsw_mem : lmsw, &t);
		say(" %04x: cr0 %08x, clts %08x\n", t.r.ecx & 0xffff, t.r.eax, t.r.ebx);
	}
	return 0;
}
