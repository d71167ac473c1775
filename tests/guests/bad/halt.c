/* HLT with interrupts off: nothing can wake it. */
#include "../lib/rt.h"

int main(void)
{
	say("halting\n");
	asm volatile("cli; hlt");
	return 1;
}
