/* #UD reaches the guest's own handler with the right EIP, at CPL0 and from ring 3 (SDM 3, 6.15). */
#include "lib/rt.h"

CODE(ud2, "ud2");
CODE(ud2_later, "nop; mov $1, %eax; ud2");
CODE(ud_lock_nop, ".byte 0xf0, 0x90");
CODE(ud_lea, ".byte 0x8d, 0xc0");
CODE(ud_lock_mov, ".byte 0xf0, 0x89, 0xc8");

int main(void)
{
#define BOTH(c) (go0(#c " ring 0", c, 0), go3(#c " ring 3", c, 0))
	BOTH(ud2);
	BOTH(ud2_later);
	BOTH(ud_lock_nop);
	BOTH(ud_lea);
	BOTH(ud_lock_mov);
	return 0;
}
