/* Global pages: with CR4.PGE a change is seen after INVLPG or a change of PGE, in every address space (SDM 3, 4.10.2.4). */
#include "../lib64/rt.h"

int main(void)
{
	static const u64 va = 0xffffc90000000000;
	u64 *a = new_root(), *b = new_root(), *one = page(), *two = page();

	*one = 0x1111;
	*two = 0x2222;
	map(a, va, low(one), PG_P | PG_W | PG_G);
	b[va >> 39 & 511] = a[va >> 39 & 511];
	use(a);
	write_cr4(read_cr4() | CR4_PGE);
	for (int round = 0; round < 3; round++) {
		say("a %lx\n", *(volatile u64 *)va);
		use(b);
		say("b %lx\n", *(volatile u64 *)va);
		*entry(b, va, 1) = low(two) | PG_P | PG_W | PG_G;
		invlpg(va);
		say("b after invlpg %lx\n", *(volatile u64 *)va);
		use(a);
		say("a %lx\n", *(volatile u64 *)va);
		*entry(a, va, 1) = low(one) | PG_P | PG_W | PG_G;
		write_cr4(read_cr4() & ~(u64)CR4_PGE);
		write_cr4(read_cr4() | CR4_PGE);
		say("a after PGE %lx\n", *(volatile u64 *)va);
	}
	return 0;
}
