/* The CPU sets A in directory and table on any access, D in the last level on a write only, and no D on a fault (SDM 3, 4.8). */
#include "lib/rt.h"

CODE(read_it, "mov (%ebx), %eax");
CODE(write_it, "movb $0xc3, (%ebx)");
CODE(rmw_it, "incb (%ebx); decb (%ebx)");
CODE(push_it, "xchg %ebx, %esp; push $0xc3; xchg %ebx, %esp");
CODE(cmpxchg_it, "mov $0, %eax; lock cmpxchg %ecx, (%ebx)"); /* a failing one writes too */
enum { VA = 0x40000000 };
static u32 *pd, *e;
static u8 *target;

static void one(const char *name, const void *code, int ring, u32 flags, int large)
{
	struct try t;

	*target = 0xc3;
	if (large)
		pd[VA >> 22] = 0x1000000 | PG_PS | flags;
	else {
		pd[VA >> 22] = (u32)e | PG_P | PG_W | PG_U;
		*e = (u32)target | flags;
	}
	invlpg(VA);
	fresh(&t);
	t.r.ebx = code == push_it ? VA + 16 : VA;
	if ((ring ? go3 : go0)(name, code, &t)) { /* whether a refused access sets A is the CPU's affair */
		say(" ring %u flags %x: D %c\n", ring, flags, (large ? pd[VA >> 22] : *e) & PG_D ? 'D' : '-');
		return;
	}
	say(" ring %u flags %x: pde %c%c", ring, flags, pd[VA >> 22] & PG_A ? 'A' : '-', pd[VA >> 22] & PG_D ? 'D' : '-');
	if (!large)
		say(" pte %c%c", *e & PG_A ? 'A' : '-', *e & PG_D ? 'D' : '-');
	say("\n");
}

int main(void)
{
	pd = identity_map(24, PG_P | PG_W | PG_U);
	e = pte(pd, VA);
	write_cr4(CR4_PSE);
	*(u8 *)0x1000000 = 0xc3;
	paging_on(pd, CR0_WP);
	for (int large = 0; large < 2; large++) {
		target = large ? (u8 *)0x1000000 : page();
		say(large ? "4 MiB\n" : "4 KiB\n");
		for (int ring = 0; ring < 4; ring += 3) {
			one("read", read_it, ring, PG_P | PG_W | PG_U, large);
			one("write", write_it, ring, PG_P | PG_W | PG_U, large);
			one("read-modify-write", rmw_it, ring, PG_P | PG_W | PG_U, large);
			one("push", push_it, ring, PG_P | PG_W | PG_U, large);
			one("cmpxchg that fails", cmpxchg_it, ring, PG_P | PG_W | PG_U, large);
			one("fetch", (void *)VA, ring, PG_P | PG_W | PG_U, large);
			one("read of read-only", read_it, ring, PG_P | PG_U, large);
			one("refused write", write_it, ring, PG_P | PG_U, large);
		}
		one("ring 3 on the kernel's", read_it, 3, PG_P | PG_W, large);
	}
	return 0;
}
