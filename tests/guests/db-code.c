/* An execution breakpoint is a fault before the instruction, DR6 names it, RF in the frame lets it go on (SDM 3, 18.3.1.1). */
#include "lib/rt.h"

CODE(target, "nop; nop; inc %eax; nop; cli; nop");
CODE(counted, "mov $3, %ecx; 1: loop 1b");

static u32 hits;
static const char *base;
static void seen(struct frame *f)
{
	say(" #DB at +%u ring %u dr6 %04x rf %u\n", f->eip - (u32)base, f->cs & 3, read_dr6() & 0xe00f, f->eflags >> 16 & 1);
	write_dr6(0xffff0ff0);
	f->eflags |= F_RF;
	hits++;
}

static void show(const char *name, const char *code, u32 dr7, int ring)
{
	base = code;
	write_dr7(dr7);
	(ring ? go3 : go0)(name, code, 0);
	write_dr7(0);
}

int main(void)
{
	on(1, seen);
	write_dr0((u32)target + 2);
	write_dr1((u32)target + 4);
	write_dr2((u32)counted + 5);
	write_dr3((u32)target + 3);
	show("off", target, 0, 0);
	show("first", target, 1, 0);
	show("first and second", target, 5, 0);
	show("global", target, 2, 0);
	show("in a loop", counted, 0x10, 0);
	show("ring 3", target, 5, 3);
	say("%u hits\n", hits);
	return 0;
}
