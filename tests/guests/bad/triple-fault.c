/* An exception without an IDT: #GP, #DF, shutdown (SDM 3, 6.15, vector 8). */
#include "../lib/rt.h"

int main(void)
{
	static struct dtr none;

	say("going down\n");
	asm volatile("lidt %0; int3" : : "m"(none));
	return 1;
}
