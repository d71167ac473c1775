/* Interrupt stack table: a gate with IST 1..7 switches to that stack from any ring, again and again to the same top; SS is null after a change of
 * ring; IRETQ goes back (SDM 3, 6.14.5). */
#include "../lib64/rt.h"

static u64 frame_end, depth;
static u16 ss_inside;
CODE(bp, "int3; nop");
CODE32(bp32, "int3; nop");

static void on_bp(struct frame *f)
{
	frame_end = (u64)(f + 1);
	asm volatile("mov %%ss, %0" : "=r"(ss_inside));
	depth++;
}

/* Whether SS becomes null without a change of ring as well is not told the same way everywhere. */
static void where(const char *name, int ist, int ring)
{
	say("%s ist %d: ", name, ist);
	if (ist)
		say("%s", frame_end == ist_stack(ist) ? "its top" : "NOT ITS TOP");
	else
		say("the stack in use or RSP0");
	if (ring)
		say(" ss %x", ss_inside);
	say("\n");
}

static void nested(struct frame *f)
{
	u64 first = (u64)(f + 1), mine = f->rsp;

	say("outer: %s\n", first == ist_stack(1) ? "top of 1" : "elsewhere");
	asm volatile("int3"); /* IST 2, inside IST 1 */
	say("inner: %s, outer's rsp kept: %s\n", frame_end == ist_stack(2) ? "top of 2" : "elsewhere", f->rsp == mine ? "yes" : "no");
}

int main(void)
{
	struct try t;

	on(3, on_bp);
	for (int ist = 0; ist < 8; ist++) {
		set_gate(3, stub(3), GATE_INT | GATE_DPL3, ist);
		asm volatile("int3");
		where("ring 0", ist, 0);
		asm volatile("int3");
		where("ring 0 again", ist, 0);
		go3("ring 3", bp, 0);
		where("ring 3", ist, 3);
		go32("compat", bp32, 0);
		where("compat", ist, 3);
	}
	/* The same, misaligned on purpose: the stack is aligned even so. */
	tss->ist[0] = ist_stack(1) - 8;
	set_gate(3, stub(3), GATE_INT | GATE_DPL3, 1);
	asm volatile("int3");
	say("ist 1 at -8: frame ends at -%lu\n", ist_stack(1) - frame_end);
	tss->ist[0] = ist_stack(1);
	set_gate(3, stub(3), GATE_INT | GATE_DPL3, 2);
	set_gate(6, stub(6), GATE_INT, 1);
	on(6, nested);
	asm volatile("mov %%rsp, %%r12; int $6; cmp %%rsp, %%r12; je 1f; ud2; 1:" : : : "r12", "memory");
	/* A stack that is not there: #PF while the frame is pushed, through a gate of its own. */
	on(3, 0);
	on(6, 0);
	tss->ist[0] = 0x7f0000000000;
	set_gate(3, stub(3), GATE_INT | GATE_DPL3, 1);
	go0("absent stack", bp, 0);
	tss->ist[0] = 0x0080000000000000;
	fresh(&t); /* the error code is not told the same way everywhere */
	try0(&t, bp);
	say("non-canonical stack: %s\n", vector_name(t.vector));
	say("events %lu\n", depth);
	return 0;
}
