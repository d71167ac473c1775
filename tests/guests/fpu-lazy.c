/* Two tasks share the FPU the lazy way: TS on a switch, #NM moves the state; each finds its own numbers. */
#include "lib/rt.h"

static u8 area[2][512] __attribute__((aligned(16)));
static u32 owner, now, moves;

static void nm(struct frame *f)
{
	(void)f;
	asm volatile("clts");
	if (owner != now) {
		asm volatile("fxsave %0" : "=m"(area[owner]));
		asm volatile("fxrstor %0" : : "m"(area[now]));
		owner = now;
		moves++;
	}
}

u32 lazy_value;
CODE(add_one, "fld1; faddp; fld %st(0); fistpl lazy_value; fwait; movd %xmm2, %eax; inc %eax; movd %eax, %xmm2");
CODE(start, "fninit; fldz; pxor %xmm2, %xmm2");

int main(void)
{
	u32 seen[2] = { 0, 0 };

	write_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_MP);
	write_cr4(CR4_OSFXSR);
	go0("start", start, 0);
	for (int i = 0; i < 2; i++)
		asm volatile("fxsave %0" : "=m"(area[i]));
	on(7, nm);
	for (u32 i = 0; i < 30; i++) {
		struct try t;

		now = i % 3 == 0;
		write_cr0(read_cr0() | CR0_TS);
		fresh(&t);
		if ((i & 4 ? try3 : try0)(&t, add_one) && t.vector != VEC_DONE)
			report("add one", &t);
		seen[now]++;
		if (lazy_value != seen[now] || t.r.eax != seen[now])
			say("round %u: %u %u, not %u\n", i, lazy_value, t.r.eax, seen[now]);
	}
	say("%u and %u, moved %u times\n", seen[0], seen[1], moves);
	return 0;
}
