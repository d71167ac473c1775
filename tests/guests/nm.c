/* #NM: TS and EM stop x87 and SSE, WAIT only with MP and TS; CLTS in the handler goes on (SDM 3, 2.5, table 9-2). */
#include "lib/rt.h"

CODE(x87, "fninit");
CODE(x87_load, "fld1; fstp %st(0)");
CODE(wait, "fwait");
CODE(sse, "xorps %xmm0, %xmm0");
CODE(mmx, "pxor %mm0, %mm0; emms");

static u32 traps;
static void lazy(struct frame *f)
{
	traps++;
	if (f->error || (f->cs & 3) > 3)
		say("bad frame\n");
	asm volatile("clts");
}

static void set(u32 bits)
{
	write_cr0(CR0_PE | CR0_ET | CR0_NE | bits);
	say("cr0 %08x\n", read_cr0());
	BOTH(x87);
	BOTH(x87_load);
	BOTH(wait);
	BOTH(sse);
	BOTH(mmx);
}

int main(void)
{
	write_cr4(CR4_OSFXSR);
	set(0);
	set(CR0_TS);
	set(CR0_MP);
	set(CR0_MP | CR0_TS);
	set(CR0_EM);
	on(7, lazy);
	for (int i = 0; i < 3; i++) {
		write_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_TS | CR0_MP);
		BOTH(x87_load);
		write_cr0(read_cr0() | CR0_TS);
		BOTH(sse);
		say("traps so far %u\n", traps);
	}
	write_cr4(0);
	on(7, 0);
	write_cr0(CR0_PE | CR0_ET | CR0_NE);
	say("without OSFXSR\n");
	BOTH(sse);
	return 0;
}
