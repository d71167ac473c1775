/* BOUND raises #BR, a fault, outside its bounds and only then (SDM 2, BOUND). */
#include "lib/rt.h"

int bound_pair[2] = { -5, 10 };
CODE(low, "mov $-5, %eax; bound %eax, bound_pair");
CODE(high, "mov $10, %eax; bound %eax, bound_pair");
CODE(below, "mov $-6, %eax; bound %eax, bound_pair");
CODE(above, "mov $11, %eax; bound %eax, bound_pair");

int main(void)
{
	BOTH(low);
	BOTH(high);
	BOTH(below);
	BOTH(above);
	return 0;
}
