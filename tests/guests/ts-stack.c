/* A bad stack in the TSS is #TS with its selector when ring 3 traps (SDM 3, 6.12.1, 6.15 vector 10). */
#include "lib/rt.h"

/* The handlers run in a conforming segment, so that they need no stack switch themselves: ring 3 code that sees the
 * error code on its own stack, puts the TSS right (paging is off) and leaves. */
extern char ts_handler[], ss_handler[], gp_handler[];
asm(".pushsection .guest,\"ax\"\n"
    "ts_handler: mov $10, %esi; jmp 1f\n"
    "ss_handler: mov $12, %esi; jmp 1f\n"
    "gp_handler: mov $13, %esi\n"
    "1: pop %edi; pop %ebp; mov %cs, %ebx; movl $0x10, tss_ss0; int $0x30\n.popsection");
extern u32 tss_ss0;
asm(".globl tss_ss0\n.set tss_ss0, tss_esp0+4");
CODE(trap, "nop; int $0x30");

static void show(const char *name, u32 ss0)
{
	struct try t;

	fresh(&t);
	tss->ss0 = ss0;
	t.code = trap;
	t.r.esi = 0;
	try3(&t, trap);
	say("%s: vector %u error %04x at +%u cs %04x\n", name, t.r.esi, t.r.edi, t.r.ebp - (u32)trap, t.r.ebx & 0xffff);
}

int main(void)
{
	gdt[7] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D);
	gdt[8] = gdt[2] & ~((u64)ACC_P << 40);
	gdt[9] = descriptor(0, 0xfffff, 0x91, FLAG_G | FLAG_D);
	idt[10] = gate(7 * 8, ts_handler, GATE_INT);
	idt[12] = gate(7 * 8, ss_handler, GATE_INT);
	idt[13] = gate(7 * 8, gp_handler, GATE_INT);
#ifdef ABSENT
	show("absent", 8 * 8);
#else
	show("null", 0);
	show("user data", SEL_UDATA);
	show("rpl 1", SEL_KDATA | 1);
	show("code", SEL_KCODE);
	show("read only", 9 * 8);
	show("beyond the limit", 0x300);
	show("local", 0x14);
#endif
	return 0;
}
