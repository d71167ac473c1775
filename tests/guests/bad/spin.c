/* An endless loop with interrupts off: only the user can end it. */
#include "../lib/rt.h"

int main(void)
{
	say("spinning\n");
	asm volatile("cli; 1: jmp 1b");
	return 1;
}
