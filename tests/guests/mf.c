/* #MF: an unmasked x87 error is reported at the next waiting instruction, with CR0.NE (SDM 3, 6.15, vector 16). */
#include "lib/rt.h"

u16 control_word = 0x037b; /* divide by zero unmasked */
CODE(pending, "fninit; fldcw control_word; fld1; fldz; fdivrp; nop; fwait; nop");
CODE(cleared, "fninit; fldcw control_word; fld1; fldz; fdivrp; fnclex; fwait; fninit");

int main(void)
{
	write_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_MP);
	BOTH(pending);
	asm volatile("fnclex");
	BOTH(cleared);
	return 0;
}
