/* MOV CR0: each bit reads back as written (SDM 3, 2.5). */
#include "lib/rt.h"

CODE(set, "mov %ecx, %cr0; mov %cr0, %eax");

int main(void)
{
	static const u32 bits[] = { 0, CR0_MP, CR0_EM, CR0_TS, CR0_NE, CR0_WP, CR0_AM, CR0_CD, CR0_WP | CR0_AM | CR0_NE | CR0_MP };
	struct try t;

	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
		fresh(&t);
		t.r.ecx = CR0_PE | CR0_ET | bits[i];
		go0("cr0", set, &t);
		say(" %08x: %08x\n", t.r.ecx, t.r.eax);
	}
	write_cr0(CR0_PE | CR0_ET);
	go3("ring 3", set, 0);
	return 0;
}
