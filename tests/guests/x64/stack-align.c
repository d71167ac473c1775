/* An event aligns RSP to 16 bytes before it pushes the frame, and the frame has the RSP as it was (SDM 3, 6.14.2). */
#include "../lib64/rt.h"

static struct { u64 frame, rsp; } seen;
static char stack[8192] __attribute__((aligned(16)));

static void bp(struct frame *f)
{
	seen.frame = (u64)(f + 1);
	seen.rsp = f->rsp;
}

static void pf(struct frame *f)
{
	seen.frame = (u64)(f + 1);
	seen.rsp = f->rsp;
	f->rip += 2;
}

int main(void)
{
	u64 top = (u64)stack + 4096;

	on(3, bp);
	on(14, pf);
	for (u64 off = 0; off < 17; off++) {
		asm volatile("mov %%rsp, %%r12; mov %0, %%rsp; int3; mov %%r12, %%rsp" : : "r"(top + off) : "r12", "memory");
		say("rsp +%lu: frame ends at +%lu", off, seen.frame - top);
		check(", rsp saved", seen.rsp == top + off);
		asm volatile("mov %%rsp, %%r12; mov %0, %%rsp; mov (%1), %%al; mov %%r12, %%rsp" : : "r"(top + off), "b"(0x7f0000000000) : "r12", "rax", "memory");
		say("  with error code: frame ends at +%lu", seen.frame - top);
		check(", rsp saved", seen.rsp == top + off);
	}
	return 0;
}
