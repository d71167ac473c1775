/* MOV to CS is #UD, whatever the selector (SDM 2, MOV). QEMU 10.0's TCG checks the selector and raises #GP. */
#include "lib/rt.h"

CODE(mov_cs, ".byte 0x8e, 0xc8");

int main(void)
{
	go0("mov_cs ring 0", mov_cs, 0);
	go3("mov_cs ring 3", mov_cs, 0);
	return 0;
}
