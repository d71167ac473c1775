/* RDTSC counts up; CR4.TSD forbids it to ring 3 only (SDM 2, RDTSC). */
#include "lib/rt.h"

CODE(read_tsc, "rdtsc; xor %eax, %eax; xor %edx, %edx");

int main(void)
{
	u64 a = rdtsc(), b;

	for (int i = 0; i < 1000; i++) {
		b = rdtsc();
		if (b < a)
			check("counts up", 0);
		a = b;
	}
	check("counts", rdtsc() != a || rdtsc() != a);
	BOTH(read_tsc);
	write_cr4(read_cr4() | CR4_TSD);
	BOTH(read_tsc);
	write_cr4(read_cr4() & ~CR4_TSD);
	BOTH(read_tsc);
	return 0;
}
