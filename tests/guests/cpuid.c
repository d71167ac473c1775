/* CPUID announces what the guests here rely on, and the same in 32-bit registers whatever the upper leaf asked (SDM 2, CPUID). */
#include "lib/rt.h"

static void cpuid(u32 leaf, u32 r[4])
{
	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
}

int main(void)
{
	static const struct { const char *name; int bit; } bits[] = {
		{ "fpu", 0 }, { "pse", 3 }, { "tsc", 4 }, { "msr", 5 }, { "cx8", 8 }, { "sep", 11 }, { "pge", 13 }, { "cmov", 15 },
		{ "mmx", 23 }, { "fxsr", 24 }, { "sse", 25 }, { "sse2", 26 },
	};
	u32 a[4], b[4];

	cpuid(0, a);
	check("leaf 1 exists", a[0] >= 1);
	cpuid(1, a);
	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++)
		check(bits[i].name, a[3] >> bits[i].bit & 1);
	check("no apic", !(a[3] >> 9 & 1));
	check("no pae", !(a[3] >> 6 & 1));
	cpuid(1, b);
	check("the same twice", !memcmp(a, b, sizeof a));
	return 0;
}
