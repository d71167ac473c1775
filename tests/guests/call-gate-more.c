/* Call gates: 16-bit ones, 31 parameters, to conforming and to 16-bit code, from ring 3 to 1, JMP; the faults of gate, code, and of the stack
 * that the TSS names; what a return through them restores (SDM 3, 5.8; SDM 2, CALL). */
#include "lib/rt.h"

enum { GATE = 0x3b, CONF = 0x40, CODE16S = 0x48, CODE1 = 0x50, DATA1 = 0x58, NP = 0x60, SHORT = 0x68, STACK0 = 0x70, RO = 0x78 };

extern char in_gate[], in_gate2[], in_gate31[], in_gate16[], in_ring1[], in_ring1_short[];
u32 saw[16];
char stack1[4096] __attribute__((aligned(4096)));
asm(".text\nin_gate2: call note; lret $8\nin_gate31: call note; lret $124\nin_gate: call note; lret\n"
    "note: mov %cs, saw; mov %ss, saw+4; mov 4(%esp), %eax; mov %eax, saw+12; mov 8(%esp), %eax; mov %eax, saw+16;"
    "mov 12(%esp), %eax; mov %eax, saw+20; mov 16(%esp), %eax; mov %eax, saw+24; ret\n"
    "in_ring1: mov %cs, %eax; mov %eax, %ss:saw; mov %ss, %eax; mov %eax, %ss:saw+4; lret $8\n"
    "in_ring1_short: lret $8\n"
    ".code16\nin_gate16: movw %cs, %ax; movw %ss, %bx; movl (%esp), %edx; movw 4(%esp), %si; movw 6(%esp), %di; movw 10(%esp), %cx; lretw $4\n.code32\n");
CODE(call2, "mov %esp, %ebp; push $0x22222222; push $0x11111111; lcall $0x3b, $0; sub %esp, %ebp; mov %cs, %ecx; mov %ss, %edx");
CODE(call16, "mov %esp, %ebp; pushw $0x2222; pushw $0x1111; lcall $0x3b, $0; sub %esp, %ebp");
CODE(call31, "mov %esp, %ebp; mov $31, %ecx; 1: push %ecx; loop 1b; lcall $0x3b, $0; mov %ebp, %esp");
CODE(call0, "lcall $0x3b, $0");
CODE(call_rpl0, "lcall $0x38, $0");
CODE(jump, "ljmp $0x3b, $0");
CODE(short_stack, "mov $0x23, %eax; mov $0x7b, %ecx; lcall $0x3b, $0");

static void show(int parameters)
{
	say(" entry: cs %04x ss %04x from cs %04x", saw[0] & 0xffff, saw[1] & 0xffff, saw[4] & 0xffff);
	if (parameters)
		say(", %08x %08x", saw[5], saw[6]);
	say("\n");
	memset(saw, 0, sizeof saw);
}

static void set(u16 sel, const void *entry, u8 access, u32 parameters)
{
	gdt[GATE / 8] = gate(sel, entry, access) | (u64)parameters << 32;
}

int main(void)
{
	struct try t;

	gdt[CONF / 8] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D);
	gdt[CODE16S / 8] = descriptor(0x8000, 0xffff, 0x9b, 0);
	gdt[CODE1 / 8] = descriptor(0, 0xfffff, 0xbb, FLAG_G | FLAG_D);
	gdt[DATA1 / 8] = descriptor(0, 0xfffff, 0xb3, FLAG_G | FLAG_D);
	gdt[NP / 8] = descriptor(0, 0xfffff, 0x13, FLAG_G | FLAG_D);
	gdt[SHORT / 8] = descriptor(0, 0xfff, 0x9b, FLAG_D);
	gdt[STACK0 / 8] = descriptor((u32)stack1, 0x2f, 0x93, FLAG_D);
	gdt[RO / 8] = descriptor(0, 0xfffff, 0x91, FLAG_G | FLAG_D);
	memcpy((void *)0x8000, in_gate16, 128);
	tss->esp1 = (u32)stack1 + sizeof stack1;
	tss->ss1 = DATA1 | 1;

	set(SEL_KCODE, in_gate2, 0xec, 2);
	go3("two parameters", call2, 0), show(1);
	set(SEL_KCODE, in_gate31, 0xec, 31);
	go3("31 parameters", call31, 0), show(1);
	set(CONF, in_gate, 0xec, 5);
	go3("conforming", call0, 0), show(0);
	go3("jmp to conforming", jump, 0), show(0);
	set(SEL_UCODE, in_gate, 0xec, 5);
	go3("same ring", call0, 0), show(0);
	set(CODE1 | 3, in_ring1, 0xec, 2);
	fresh(&t);
	go3("to ring 1", call2, &t), show(0);
	say(" back: esp moved by %u cs %04x ss %04x\n", t.r.ebp, t.r.ecx & 0xffff, t.r.edx & 0xffff);
	/* 16 bits: the gate, the code, the frame. */
	set(CODE16S, 0, 0xe4, 2);
	fresh(&t);
	t.r.esp = 0x6000; /* the gate pushes SP */
	memcpy((void *)0x9000, call16, 64); /* … and IP */
	go3("16-bit gate", (void *)0x9000, &t);
	say(" in cs %04x ss %04x from %04x:%04x ss %04x, parameters %04x %04x, esp back by %u\n", t.r.eax & 0xffff, t.r.ebx & 0xffff, t.r.edx >> 16,
	    t.r.edx & 0xffff, t.r.ecx & 0xffff, t.r.esi & 0xffff, t.r.edi & 0xffff, t.r.ebp);

	set(SEL_KCODE, in_gate, 0x8c, 0);
	go3("gate of ring 0", call0, 0);
	go0("gate of ring 0, rpl 3", call0, 0);
	go0("gate of ring 0 in ring 0", call_rpl0, 0), show(0);
	set(SEL_KCODE, in_gate, 0x6c, 0);
	go3("absent gate", call0, 0);
	set(0, in_gate, 0xec, 0);
	go3("to null", call0, 0);
	set(0x1ff8, in_gate, 0xec, 0);
	go3("to outside", call0, 0);
	set(SEL_KDATA, in_gate, 0xec, 0);
	go3("to data", call0, 0);
	set(SEL_TSS, in_gate, 0xec, 0);
	go3("to a TSS", call0, 0);
	gdt[NP / 8] = descriptor(0, 0xfffff, 0x1b, FLAG_G | FLAG_D);
	set(NP, in_gate, 0xec, 0);
	go3("to absent code", call0, 0);
	set(SHORT, in_gate, 0xec, 0);
	go3("beyond the limit", call0, 0);
	set(SEL_UCODE, in_gate, 0xec, 0);
	go0("from ring 0 to ring 3", call0, 0);
	set(SEL_KCODE, in_gate, 0xec, 0);
	go3("jmp inwards", jump, 0);

	/* The stack. */
	set(CODE1, in_ring1, 0xec, 2);
	gdt[NP / 8] = descriptor(0, 0xfffff, 0x33, FLAG_G | FLAG_D);
	gdt[RO / 8] = descriptor(0, 0xfffff, 0xb1, FLAG_G | FLAG_D);
	gdt[STACK0 / 8] = descriptor((u32)stack1, 0x2f, 0xb3, FLAG_D);
	tss->ss1 = 0, go3("null stack", call2, 0);
	tss->ss1 = SEL_KDATA | 1, go3("stack of ring 0", call2, 0);
	tss->ss1 = DATA1, go3("stack with rpl 0", call2, 0);
	tss->ss1 = RO | 1, go3("read-only stack", call2, 0);
	tss->ss1 = CODE1 | 1, go3("code for a stack", call2, 0);
	tss->ss1 = 0x1ff9, go3("stack outside", call2, 0);
	tss->ss1 = STACK0 | 1, tss->esp1 = 0x17, go3("no room", call2, 0);
	tss->esp1 = 0x18;
	gdt[GATE / 8] = gate(CODE1, in_ring1_short, 0xec) | 2ull << 32;
	fresh(&t);
	go3("just room", call2, &t);
	tss->esp1 = 0x34, go3("above the limit", call2, 0);
	load_tss(0xf);
	tss->ss1 = DATA1 | 1, go3("TSS too short", call2, 0);
	return 0;
}
