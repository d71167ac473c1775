/* Reset through the keyboard controller. */
#include "../lib/rt.h"

int main(void)
{
	say("resetting\n");
	outb(0x64, 0xfe);
	for (;;)
		asm volatile("cli; hlt");
}
