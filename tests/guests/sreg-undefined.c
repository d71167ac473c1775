/* MOV to CS and MOV from or to segment registers 6 and 7 are #UD, whatever the selector (SDM 2, MOV). */
#include "lib/rt.h"

CODE(mov_to_cs, ".byte 0x8e, 0xc8");
CODE(mov_to_6, ".byte 0x8e, 0xf0");
CODE(mov_to_7, ".byte 0x8e, 0xf8");
CODE(mov_from_6, ".byte 0x8c, 0xf0");
CODE(mov_from_7, ".byte 0x8c, 0xf8");

int main(void)
{
	BOTH(mov_to_cs);
	BOTH(mov_to_6);
	BOTH(mov_to_7);
	BOTH(mov_from_6);
	BOTH(mov_from_7);
	return 0;
}
