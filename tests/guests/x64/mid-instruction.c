/* Jumps into the middle of 64-bit instructions run what the bytes say there: behind a REX prefix, in an immediate of eight bytes.
 */
#include "../lib64/rt.h"

/* rax = 0: the outer instruction; 1: the inside, `skip` bytes on. */
#define MIDDLE(name, skip, outer, after) CODE(name, "test %eax, %eax; jnz 1f+" #skip "; 1: .byte " outer ";" after)
MIDDLE(hidden_pushf, 2, "0x48, 0xb9, 0x9c, 0x58, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90", "and $~0x8d5, %rax"); /* movabs / pushfq; pop %rax */
MIDDLE(hidden_cs, 2, "0x48, 0xb9, 0x8c, 0xc8, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90", "and $0xffff, %eax"); /* mov %cs, %eax */
MIDDLE(hidden_cli, 3, "0x48, 0xc7, 0xc1, 0xfa, 0x9c, 0x58, 0x90", "and $~0x8d5, %rax"); /* mov $.., %rcx / cli; pushfq; pop %rax */
MIDDLE(hidden_smsw, 2, "0x48, 0xb9, 0x0f, 0x01, 0xe0, 0x90, 0x90, 0x90, 0x90, 0x90", "and $0xffff, %eax");
MIDDLE(without_rex, 1, "0x48, 0x89, 0xc1", "nop"); /* mov %rax, %rcx / mov %eax, %ecx */
MIDDLE(rdfs, 1, "0x48, 0xf3, 0x0f, 0x1e, 0xc8", "nop"); /* REX before F3 counts for nothing */
MIDDLE(hidden_int3, 2, "0x48, 0xb9, 0x90, 0xcc, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90", "nop");

static void show(const char *name, const void *code)
{
	struct try t;

	for (u32 i = 0; i < 4; i++) {
		fresh(&t);
		t.r.rax = i & 1;
		t.r.rcx = 0;
		sti();
		go0(name, code, &t);
		cli();
		say(" rax %016lx", t.r.rax);
		say(" rcx %016lx", t.r.rcx);
		say("\n");
	}
}

int main(void)
{
	pic_init();
	show("pushf", hidden_pushf);
	show("mov cs", hidden_cs);
	show("cli pushf", hidden_cli);
	show("smsw", hidden_smsw);
	show("without rex", without_rex);
	show("endbr-like", rdfs);
	show("int3", hidden_int3);
	return 0;
}
