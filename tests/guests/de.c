/* #DE: division by zero and overflow, as a fault with all registers as before (SDM 3, 6.15, vector 0). */
#include "lib/rt.h"

CODE(div_zero, "xor %ecx, %ecx; div %ecx");
CODE(div_overflow, "mov $1, %ecx; mov $1, %edx; div %ecx");
CODE(idiv_min, "mov $0x80000000, %eax; cltd; mov $-1, %ecx; idiv %ecx");
CODE(div_byte, "mov $0x1000, %eax; mov $2, %cl; div %cl");
CODE(aam_zero, ".byte 0xd4, 0");
CODE(div_right, "mov $100, %eax; xor %edx, %edx; mov $7, %ecx; div %ecx");

int main(void)
{
	struct try t;

	BOTH(div_zero);
	BOTH(div_overflow);
	BOTH(idiv_min);
	BOTH(div_byte);
	BOTH(aam_zero);
	fresh(&t);
	go0("right", div_right, &t);
	say(" %u %u\n", t.r.eax, t.r.edx);
	fresh(&t);
	go0("edx kept", div_overflow, &t);
	say(" eax %08x edx %08x\n", t.r.eax, t.r.edx);
	return 0;
}
