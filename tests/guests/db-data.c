/* Data breakpoints trap after the access, on writes or on reads and writes, by length (SDM 3, 18.3.1.2). */
#include "lib/rt.h"

u32 watched[4];
CODE(write_it, "nop; mov %eax, watched; nop");
CODE(read_it, "nop; mov watched, %eax; nop");
CODE(write_byte, "nop; movb %al, watched+3; nop");
CODE(write_next, "nop; mov %eax, watched+4; nop");
CODE(push_pop, "nop; push watched; pop watched; nop");

static const char *base;
static void seen(struct frame *f)
{
	say(" #DB at +%u ring %u dr6 %04x\n", f->eip - (u32)base, f->cs & 3, read_dr6() & 0xe00f);
	write_dr6(0xffff0ff0);
}

static void show(const char *name, const char *code, u32 dr7)
{
	base = code;
	for (int ring = 0; ring < 4; ring += 3) {
		write_dr7(dr7);
		(ring ? go3 : go0)(name, code, 0);
		write_dr7(0);
	}
}

static void all(u32 dr7)
{
	say("dr7 %08x\n", dr7);
	show("write", write_it, dr7);
	show("read", read_it, dr7);
	show("write byte", write_byte, dr7);
	show("write next", write_next, dr7);
	show("push pop", push_pop, dr7);
}

int main(void)
{
	on(1, seen);
	write_dr0((u32)watched);
	all(0x000d0001); /* 4 bytes, write */
	all(0x000f0001); /* 4 bytes, read or write */
	all(0x00010001); /* 1 byte, write */
	return 0;
}
