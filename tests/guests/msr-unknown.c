/* RDMSR and WRMSR of a register that does not exist are #GP(0) (SDM 2, RDMSR). */
#include "lib/rt.h"

CODE(read, "mov $0x12345678, %ecx; rdmsr");
CODE(write, "mov $0x12345678, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr");

int main(void)
{
	BOTH(read);
	BOTH(write);
	return 0;
}
