/* LAR and LSL in ring 3 on gates and task segments of DPL 3 (SDM 2, LAR). Linux has none. */
#include "lib/rt.h"

CODE(lar, "lar %ecx, %eax; pushf; pop %edx; lsl %ecx, %ebx; pushf; pop %edi");

int main(void)
{
	struct try t;

	gdt[7] = gate(SEL_KCODE, 0, 0xec);
	gdt[8] = descriptor((u32)tss, 103, 0xe9, 0);
	for (u32 s = 7 * 8; s < 9 * 8; s += 8) {
		fresh(&t);
		t.r.ecx = s;
		t.r.eax = t.r.ebx = 0;
		go3("lar lsl", lar, &t);
		say(" %04x: %u %08x  %u %08x\n", s, t.r.edx >> 6 & 1, t.r.eax & 0xfff0ffff, t.r.edi >> 6 & 1, t.r.ebx);
	}
	return 0;
}
