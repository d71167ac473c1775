/* RDMSR and WRMSR of the SYSENTER registers; ring 3 is refused (SDM 2, RDMSR). */
#include "lib/rt.h"

CODE(read, "mov $0x174, %ecx; rdmsr");
CODE(write, "mov $0x174, %ecx; xor %edx, %edx; mov $8, %eax; wrmsr; xor %eax, %eax; rdmsr");

int main(void)
{
	static const u32 msrs[] = { 0x174, 0x175, 0x176 };

	for (int i = 0; i < 3; i++) {
		wrmsr(msrs[i], 0x5678);
		say("%x: %08x\n", msrs[i], (u32)rdmsr(msrs[i]));
		wrmsr(msrs[i], 0);
		say("%x: %08x\n", msrs[i], (u32)rdmsr(msrs[i]));
	}
	BOTH(read);
	BOTH(write);
	return 0;
}
