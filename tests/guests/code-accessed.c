/* A far transfer sets the accessed bit of a code descriptor; a refused one does not (SDM 3, 3.4.5.1). */
#include "lib/rt.h"

CODE(jump, "ljmp $0x38, $1f; 1: ljmp $8, $2f; 2: nop");
CODE(call, "lcall $0x40, $1f; jmp 2f; 1: lret; 2: nop");
CODE(return_, "pushf; push $0x48; push $1f; iret; 1: ljmp $8, $2f; 2: nop");
CODE(refused, "ljmp $0x50, $1f; 1: nop");

int main(void)
{
	for (int i = 7; i < 10; i++)
		gdt[i] = descriptor(0, 0xfffff, 0x9a, FLAG_G | FLAG_D);
	gdt[10] = descriptor(0, 0xfffff, 0x1a, FLAG_G | FLAG_D);
	go0("jmp", jump, 0);
	go0("call", call, 0);
	go0("iret", return_, 0);
	go0("refused", refused, 0);
	for (int i = 7; i < 11; i++)
		say("%04x accessed: %u\n", i * 8, (u32)(gdt[i] >> 40 & 1));
	return 0;
}
