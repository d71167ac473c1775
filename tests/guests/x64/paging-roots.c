/* Many address spaces that share the kernel: each has its own user page, switched to and fro, from ring 0 and with a system call in each
 * (SDM 3, 4.10.4). */
#include "../lib64/rt.h"

enum { ROOTS = 40 };
CODE(work, "mov (%rbx), %rax; add %rcx, (%rbx); int $0x80; mov (%rbx), %rdx");
static u64 *roots[ROOTS];
static const u64 va = 0x0000555555554000;
static u32 calls;

static void int80(struct frame *f)
{
	calls++;
	*(u64 *)va += f->rcx << 32;
}

int main(void)
{
	u64 bad = 0;

	on(0x80, int80);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	for (u64 i = 0; i < ROOTS; i++) {
		u64 *p = page();

		roots[i] = new_root();
		*p = i;
		map(roots[i], va, low(p), PG_P | PG_W | PG_U);
	}
	for (u64 round = 0; round < 6; round++)
		for (u64 i = 0; i < ROOTS; i++) {
			u64 n = round & 1 ? ROOTS - 1 - i : i, want = n + round + (round << 32);
			struct try t;

			use(roots[n]);
			fresh(&t);
			t.r.rbx = va;
			t.r.rcx = 1;
			if (try3(&t, work) || t.r.rax != want || t.r.rdx != want + 1 + (1ul << 32))
				bad++;
		}
	say("%u calls, %lu wrong\n", calls, bad);
	return 0;
}
