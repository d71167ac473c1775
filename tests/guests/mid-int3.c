/* INT3 in the middle of an instruction, reached through a register: a breakpoint of the guest's own, however often. */
#include "lib/rt.h"

CODE(inside, "mov $1f+1, %edx; test %eax, %eax; jz 1f; jmp *%edx; 1: .byte 0xb9, 0xcc, 0x90, 0x90, 0x90");

int main(void)
{
	struct try t;

	for (u32 i = 0; i < 4; i++) {
		fresh(&t);
		t.r.eax = i & 1;
		t.r.ecx = 0;
		go0("int3", inside, &t);
		say(" eax %08x ecx %08x\n", t.r.eax, t.r.ecx);
	}
	return 0;
}
