/* A 64-bit guest boots, goes to long mode by itself, prints and ends (SDM 3, 10.8.5). */
#include "../lib64/rt.h"

int main(void)
{
	say("hello from %d bits of long mode, EFER.LMA %lu\n", 64, rdmsr(MSR_EFER) >> 10 & 1);
	return 0;
}
