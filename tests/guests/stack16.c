/* A 16-bit stack segment: pushes wrap in SP and leave the upper half of ESP alone; sensitive instructions use it too (SDM 1, 6.2.3). */
#include "lib/rt.h"

CODE(use, "mov %esp, %ebp; mov %ss, %edi; mov $0x38, %ecx; mov %ecx, %ss; mov $0x12347010, %esp; push $0x55667788; mov %esp, %eax;"
	"pushf; cli; popf; push %cs; pop %edx; pushw $0x1111; mov %esp, %ebx; popw %cx; pop %ecx; mov %esp, %esi; mov %edi, %ss; mov %ebp, %esp");

int main(void)
{
	struct try t;

	gdt[7] = descriptor(0, 0xffff, 0x93, 0);
	for (int i = 0; i < 2; i++) {
		fresh(&t);
		go0("16-bit stack", use, &t);
		say(" esp %08x %08x %08x, popped %08x, cs %04x, memory %08x\n", t.r.eax, t.r.ebx, t.r.esi, t.r.ecx, t.r.edx & 0xffff,
		    *(u32 *)0x700c);
	}
	return 0;
}
