/* #XM: an unmasked SSE error, if CR4.OSXMMEXCPT is set, else #UD (SDM 3, 6.15, vector 19). */
#include "lib/rt.h"

u32 mxcsr_open = 0x1f80 & ~0x200; /* divide by zero unmasked */
CODE(divide, "ldmxcsr mxcsr_open; mov $1, %eax; cvtsi2ss %eax, %xmm0; xorps %xmm1, %xmm1; divss %xmm1, %xmm0");

int main(void)
{
	write_cr4(CR4_OSFXSR | CR4_OSXMMEXCPT);
	BOTH(divide);
	write_cr4(CR4_OSFXSR);
	BOTH(divide);
	return 0;
}
