/* A guest boots, prints and ends: multiboot entry, serial port, debug-exit port. */
#include "lib/rt.h"

int main(void)
{
	say("hello from %d bits of protected mode\n", 32);
	return 0;
}
