/* TF: a trap after each instruction, DR6.BS set, TF clear in the handler and set in its frame (SDM 3, 18.3.1.4). */
#include "lib/rt.h"

static u32 start, bs;
static void step(struct frame *f)
{
	say(" +%u", f->eip - start);
	if (!(read_dr6() & 1 << 14) || !(f->eflags & F_TF) || (read_flags() & F_TF))
		say("(dr6 %08x eflags %08x)", read_dr6() & 0xe00f, f->eflags & F_SYSTEM);
	write_dr6(0xffff0ff0);
	bs++;
}

CODE(plain, "pushf; orl $0x100, (%esp); popf; nop; mov $1, %eax; jmp 1f; ud2; 1: inc %eax; pushf; andl $~0x100, (%esp); popf; nop; nop");
CODE(calls, "pushf; orl $0x100, (%esp); popf; nop; call 1f; jmp 2f; 1: ret; 2: pushf; andl $~0x100, (%esp); popf; nop");
CODE(iret_sets, "pushf; pop %eax; or $0x100, %eax; push %eax; push %cs; push $1f; iret; 1: nop; nop; pushf; andl $~0x100, (%esp); popf; nop");

static void both(const char *name, const void *code)
{
	start = (u32)code;
	for (int ring = 0; ring < 4; ring += 3) {
		say("steps:");
		(ring ? go3 : go0)(name, code, 0);
	}
}

int main(void)
{
	on(1, step);
	both("plain", plain);
	both("calls", calls);
	both("iret", iret_sets);
	say("%u steps\n", bs);
	return 0;
}
