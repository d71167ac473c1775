/* An instruction of 16 bytes is #GP(0), a sensitive one too (SDM 3, 6.15, vector 13). */
#include "lib/rt.h"

CODE(long_nop, ".fill 15, 1, 0x2e; nop");
CODE(long_cli, ".fill 15, 1, 0x2e; cli");
CODE(just_cli, ".fill 14, 1, 0x2e; cli");

int main(void)
{
	BOTH(long_nop);
	BOTH(long_cli);
	BOTH(just_cli);
	return 0;
}
