/* A jump to physical memory that is not there. What happens is nobody's rule; the run must end with a message. */
#include "../lib/rt.h"

int main(void)
{
	static struct dtr none;

	say("going down\n");
	asm volatile("lidt %0; mov $0x30000000, %%eax; jmp *%%eax" : : "m"(none) : "eax");
	return 1;
}
