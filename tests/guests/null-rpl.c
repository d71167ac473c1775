/* A null selector keeps the RPL it was loaded with (SDM 2, MOV). An IRET to an outer ring makes it 0, that of the VMM too. */
#include "lib/rt.h"

CODE(null, "mov $2, %eax; mov %eax, %fs; cpuid; cli; mov %fs, %eax; mov %fs, %ebx; xor %ecx, %ecx; mov %ecx, %fs");

int main(void)
{
	struct try t;

	fresh(&t);
	go0("null", null, &t);
	say(" %04x %04x\n", t.r.eax, t.r.ebx);
	return 0;
}
