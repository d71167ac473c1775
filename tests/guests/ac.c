/* #AC: misaligned accesses in ring 3 with CR0.AM and EFLAGS.AC, error code 0; never in ring 0 (SDM 3, 6.15, vector 17). */
#include "lib/rt.h"

u32 ac_cells[4];
CODE(misaligned, "mov ac_cells+1, %eax");
CODE(word, "movw ac_cells+1, %ax");
CODE(aligned, "mov ac_cells+4, %eax; mov ac_cells+3, %al");
CODE(write, "mov %eax, ac_cells+2");

static void all(u32 flags)
{
	struct try t;
	static const void *const code[] = { misaligned, word, aligned, write };

	for (int i = 0; i < 4; i++) {
		fresh(&t);
		t.r.eflags = flags | 2;
		go3("ring 3", code[i], &t);
		write_flags(flags | 2);
		go0("ring 0", code[i], 0);
	}
}

int main(void)
{
	all(0);
	all(F_AC);
	write_cr0(read_cr0() | CR0_AM);
	all(0);
	all(F_AC);
	return 0;
}
