/* Reset through port 0xCF9. */
#include "../lib/rt.h"

int main(void)
{
	say("resetting\n");
	outb(0xcf9, 2);
	outb(0xcf9, 6);
	for (;;)
		asm volatile("cli; hlt");
}
