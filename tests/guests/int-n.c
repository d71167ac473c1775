/* INT n: gate type decides about IF, gate DPL about ring 3, the error codes name the vector with the IDT bit (SDM 3, 6.12). */
#include "lib/rt.h"

CODE(int_80, "int $0x80");
CODE(int_81, "int $0x81");
CODE(int_82, "int $0x82");
CODE(int_83, "int $0x83");
CODE(int_84, "int $0x84");
CODE(int_85, "int $0x85");
CODE(int_0d, "int $13");
CODE(int_0e, "int $14");
CODE(int_03, ".byte 0xcd, 3");
CODE(int_ff, "int $0xff");

static const u8 *came_from;

static void seen(struct frame *f)
{
	say("vector %02x from ring %u, after it: %s, IF %u in the handler %u, TF NT %x\n", f->vector, f->cs & 3,
	    f->eip == (u32)came_from + 2 ? "yes" : "NO", f->eflags >> 9 & 1, read_flags() >> 9 & 1, read_flags() & (F_TF | F_NT));
}

static void both(const char *name, const void *code)
{
	struct try t;

	came_from = code;
	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		t.r.eflags = F_IF | 2;
		if (ring)
			go3(name, code, &t);
		else
			go0(name, code, &t);
	}
}

int main(void)
{
	static struct dtr shorter = { 0x87 * 8 - 1, (u32)idt };

	pic_init();
	on(0x80, seen);
	on(0x81, seen);
	on(0x82, seen);
	on(0x83, seen);
	on(3, seen);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3);
	set_gate(0x81, stub(0x81), GATE_TRAP | GATE_DPL3);
	set_gate(0x82, stub(0x82), GATE_INT);
	set_gate(0x83, stub(0x83), (GATE_TRAP | GATE_DPL3) & ~0x80);
	idt[0x84] = gate(0, stub(0x84), GATE_INT | GATE_DPL3);
	idt[0x85] = gate(SEL_KDATA, stub(0x85), GATE_INT | GATE_DPL3);
	both("interrupt gate", int_80);
	both("trap gate", int_81);
	both("gate of DPL 0", int_82);
	both("absent gate", int_83);
	both("gate to null", int_84);
	both("gate to data", int_85);
	go3("int 13", int_0d, 0); /* from ring 0 it would come without the error code that the stub expects */
	go3("int 14", int_0e, 0);
	both("int 3, long form", int_03);
	set_gate(3, stub(3), GATE_INT | GATE_DPL3);
	both("int 3, long form, DPL 3", int_03);
	asm volatile("lidt %0" : : "m"(shorter));
	both("beyond the limit", int_ff);
	idt[0x80] = gate(SEL_KCODE, stub(0x80), 0x82 | GATE_DPL3); /* an LDT descriptor is no gate */
	both("no gate type", int_80);
	return 0;
}
