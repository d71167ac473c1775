/* The EXT bit of an error code is set when the event being delivered was not INT n (SDM 3, 6.13). */
#include "lib/rt.h"

CODE(undefined, "ud2");
CODE(breakpoint, "int3");
CODE(software, "int $6");

static void all(void)
{
	BOTH(undefined);
	BOTH(breakpoint);
	BOTH(software);
}

int main(void)
{
	say("gates absent\n");
	set_gate(6, stub(6), 0x6e);
	set_gate(3, stub(3), 0x6e);
	all();
	say("gates to data\n");
	idt[6] = gate(SEL_KDATA, stub(6), 0xee);
	idt[3] = gate(SEL_KDATA, stub(3), 0xee);
	all();
	return 0;
}
