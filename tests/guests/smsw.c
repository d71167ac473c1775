/* SMSW shows the guest's CR0, low 16 bits, as MOV CR0, LMSW and CLTS change it (SDM 2, SMSW). */
#include "lib/rt.h"

u32 smsw_cell;
CODE(smsw_r16, "smsw %ax");
CODE(smsw_r32, "smsw %eax; and $0xffff, %eax");
CODE(smsw_mem, "smsw smsw_cell");

static void show(const char *name)
{
	struct try t;

	say("%s\n", name);
	for (int ring = 0; ring < 4; ring += 3) {
		int (*go)(const char *, const void *, struct try *) = ring ? go3 : go0;

		smsw_cell = 0x55555555;
		fresh(&t);
		go("r16", smsw_r16, &t);
		say(" ring %u %08x\n", ring, t.r.eax);
		fresh(&t);
		go("r32", smsw_r32, &t);
		say(" ring %u %08x\n", ring, t.r.eax);
		go("mem", smsw_mem, 0);
		say(" ring %u %08x\n", ring, smsw_cell);
	}
}

int main(void)
{
	u32 cr0 = CR0_PE | CR0_ET;

	write_cr0(cr0);
	show("nothing set");
	write_cr0(cr0 | CR0_TS);
	show("TS");
	asm volatile("clts");
	show("clts");
	asm volatile("lmsw %w0" : : "r"(CR0_PE | CR0_MP));
	show("lmsw MP");
	write_cr0(cr0 | CR0_NE | CR0_EM);
	show("NE EM");
	return 0;
}
