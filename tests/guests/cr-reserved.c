/* Reserved bits of CR4, CR0.NW without CD, CR0.PG without PE and LTR of null are #GP and change nothing (SDM 3, 2.5). */
#include "lib/rt.h"

CODE(set_cr4, "mov %ecx, %cr4");
CODE(ltr_null, "xor %eax, %eax; ltr %ax");
CODE(set_cr0, "mov %ecx, %cr0");

int main(void)
{
	static const u32 bits[] = { 1u << 24, 1u << 31, 1u << 15, 1u << 29 };
	struct try t;

	for (int i = 0; i < 4; i++) {
		fresh(&t);
		t.r.ecx = bits[i];
		go0("cr4", set_cr4, &t);
		say(" %08x: %08x\n", bits[i], read_cr4());
	}
	fresh(&t);
	t.r.ecx = CR0_PE | CR0_ET | CR0_NW;
	go0("cr0.nw", set_cr0, &t);
	fresh(&t);
	t.r.ecx = CR0_PG | CR0_ET;
	go0("cr0.pg without pe", set_cr0, &t);
	go0("ltr null", ltr_null, 0);
	return 0;
}
