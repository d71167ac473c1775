/* Jumps into the middle of instructions run what the bytes say there: harmless ones, and cli, pushf, push cs hidden in immediates. */
#include "lib/rt.h"

/* Entry at eax = 0: the outer instruction; 1: the inside. Each is first run whole, so that it has been scanned as such. */
#define MIDDLE(name, opcode, b0, b1, b2, b3, after) \
	CODE(name, "test %eax, %eax; jnz 1f+1; 1: .byte " opcode "," b0 "," b1 "," b2 "," b3 ";" after)
MIDDLE(hidden_pushf, "0xb9", "0x9c", "0x58", "0x90", "0x90", "and $~0x8d5, %eax"); /* mov $.., %ecx / pushf; pop %eax */
MIDDLE(hidden_cs, "0xb9", "0x0e", "0x58", "0x90", "0x90", "and $0xffff, %eax");
MIDDLE(hidden_cli, "0xb9", "0xfa", "0x9c", "0x58", "0x90", "and $~0x8d5, %eax");
MIDDLE(hidden_smsw, "0xb9", "0x0f", "0x01", "0xe0", "0x90", "and $0xffff, %eax"); /* smsw %eax */
MIDDLE(hidden_nops, "0xb9", "0x90", "0x40", "0x40", "0x90", "nop");
MIDDLE(hidden_int3, "0xb9", "0x90", "0xcc", "0x90", "0x90", "nop");

static void show(const char *name, const void *code)
{
	struct try t;

	for (u32 i = 0; i < 4; i++) {
		fresh(&t);
		t.r.eax = i & 1;
		t.r.ecx = 0;
		sti();
		go0(name, code, &t);
		cli();
		say(" eax %08x ecx %08x\n", t.r.eax, t.r.ecx);
	}
}

int main(void)
{
	pic_init();
	show("pushf", hidden_pushf);
	show("push cs", hidden_cs);
	show("cli pushf", hidden_cli);
	show("smsw", hidden_smsw);
	show("nops", hidden_nops);
	show("int3", hidden_int3);
	return 0;
}
