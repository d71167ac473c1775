/* Ring 3 and back: IRET to an outer ring, INT through a DPL 3 gate with the stack from the TSS (SDM 3, 6.12.1). */
#include "lib/rt.h"

CODE(nothing, "nop");
CODE(see_cs, "mov %cs, %eax; mov %ss, %ebx; mov %ds, %ecx; pushf; pop %edx");
CODE(a_gate, "int $0x31");
CODE(a_closed_gate, "int $0x32");

static void seen(struct frame *f)
{
	say("int 31: cs %04x ss %04x esp %08x eflags %08x, handler on the TSS's stack: %s\n", f->cs & 0xffff, f->ss & 0xffff,
	    f->esp - (u32)user_stack_top, f->eflags & F_SYSTEM, (u32)(f + 1) == tss->esp0 ? "yes" : "NO");
}

int main(void)
{
	struct try t;

	go3("nothing", nothing, 0);
	fresh(&t);
	go3("see_cs", see_cs, &t);
	say("cs %04x ss %04x ds %04x eflags %08x\n", t.r.eax & 0xffff, t.r.ebx & 0xffff, t.r.ecx & 0xffff, t.r.edx);
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3);
	on(0x31, seen);
	go3("a_gate", a_gate, 0);
	go3("a_closed_gate", a_closed_gate, 0);
	return 0;
}
