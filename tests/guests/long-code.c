/* A 32-bit CPU knows no 64-bit code: the L bit of a code descriptor says nothing there, whichever way it is loaded and in whichever ring; and every
 * selector behind the end of the tables is #GP(selector), those of a 64-bit host and of a VMM among them (SDM 3, 3.4.5, 5.2.1). */
#include "lib/rt.h"

enum { FLAG_L = 2 };
u32 pointer[2];

/* 0x40 is INC EAX in 32-bit code, in 64-bit code a prefix: EAX is 1 behind it or 0. */
#define WHICH "xor %eax, %eax; .byte 0x40; nop; mov %cs, %ecx"
CODE(jmp_, "movl $1f, pointer; ljmp *pointer; 1: " WHICH "; ljmp $8, $2f; 2: nop");
CODE(call_, "movl $1f, pointer; lcall *pointer; jmp 2f; 1: " WHICH "; lret; 2: nop");
CODE(ret_, "push pointer+4; push $1f; lret; 1: " WHICH "; ljmp $8, $2f; 2: nop");
CODE(iret_, "pushf; push pointer+4; push $1f; iret; 1: " WHICH "; ljmp $8, $2f; 2: nop");
CODE(jmp3, "movl $1f, pointer; ljmp *pointer; 1: " WHICH);
CODE(call3, "movl $1f, pointer; lcall *pointer; jmp 2f; 1: " WHICH "; lret; 2: nop");
CODE(ret3, "push pointer+4; push $1f; lret; 1: " WHICH);
CODE(iret3, "pushf; push pointer+4; push $1f; iret; 1: " WHICH);
CODE(out, "mov %esp, %eax; mov %eax, tss_esp0; push $0x23; push $user_stack_top-64; push $2; push pointer+4; push $1f; iret; 1: " WHICH "; int $0x30");
CODE(int_, "xor %eax, %eax; int $0x31");
CODE(gate_, "lcall *pointer");
CODE(ds_, "mov %ecx, %ds");
CODE(ss_, "mov %ecx, %ss");
CODE(fs_, "push %ecx; pop %fs");

extern char handler_entry[], gate_entry[];
u32 inside[2];
asm(".text\nhandler_entry: " WHICH "; mov %eax, inside; mov %ecx, inside+4; iret\n"
    "gate_entry: " WHICH "; mov %eax, inside; mov %ecx, inside+4; lret");

static void show(const char *name, const void *code, int ring, u32 selector)
{
	struct try t;

	pointer[1] = selector;
	fresh(&t);
	(ring ? go3 : go0)(name, code, &t);
	if (t.vector == (u32)-1 || t.vector == VEC_DONE)
		say(" %x: %s, cs %x\n", selector, t.r.eax == 1 ? "32-bit code" : "OTHER CODE", t.r.ecx & 0xffff);
}

/* From ring 0 to ring 3: try0 cannot end there by RET, the code ends with an interrupt. */
static void show_out(u32 selector)
{
	struct try t;

	pointer[1] = selector;
	fresh(&t);
	try0(&t, out);
	say("iret outward to %x: %s, eax %u, cs %x\n", selector, t.vector == VEC_DONE ? "done" : vector_name(t.vector), t.r.eax, t.cs);
}

static void in_handler(const char *name, const void *code, int ring, u32 cs)
{
	struct try t;

	inside[0] = inside[1] = 0;
	idt[0x31] = gate(cs, handler_entry, GATE_INT | GATE_DPL3);
	gdt[18] = gate(cs, gate_entry, 0xec);
	pointer[0] = 0;
	pointer[1] = 18 << 3 | 3;
	fresh(&t);
	(ring ? go3 : go0)(name, code, &t);
	say(" through %x: eax %u, cs %x\n", cs, inside[0], inside[1]);
}

static u32 odd, tries;

static void denied(const void *code, int ring, u32 selector)
{
	struct try t;

	fresh(&t);
	t.r.ecx = selector;
	pointer[1] = selector;
	(ring ? try3 : try0)(&t, code);
	tries++;
	if ((t.vector != 13 || t.error != (selector & 0xfffc) || (t.cs & 3) != (ring ? 3u : 0)) && odd++ < 40)
		say("%x ring %d: %s error %x\n", selector, ring, vector_name(t.vector), t.error);
}

/* The kernel's own CS and SS under rvmm. Its kernel (nobody else) can load them as data: docs/architecture.md, "What is imperfect". */
static int known(u32 selector, const void *code)
{
	return selector >> 3 >= 8174 && selector >> 3 <= 8175 && !(selector & 4) && (code == ds_ || code == fs_);
}

static void all_denied(u32 selector)
{
	static const void *const kernel[] = { jmp_, call_, ret_, iret_, ds_, ss_, fs_ }, *const user[] = { jmp3, call3, ret3, iret3, ds_, ss_, fs_ };

	for (u32 i = 0; i < 7; i++) {
		if (!known(selector, kernel[i]))
			denied(kernel[i], 0, selector);
		denied(user[i], 3, selector);
	}
}

/* What is behind the table's end. */
static void guess(u32 entries)
{
	struct dtr r = { entries * 8 - 1, (u32)gdt };

	asm volatile("lgdt %0" : : "m"(r));
	for (u32 index = entries; index < 8192; index += index < 32 ? 1 : index < 7666 ? 500 : index < 8166 ? 8166 - index : 1)
		for (u32 rpl = 0; rpl < 4; rpl++)
			all_denied(index << 3 | rpl);
	for (u32 index = 0; index < 8192; index += index < 8 ? 1 : 1023)
		for (u32 rpl = 0; rpl < 4; rpl++)
			all_denied(index << 3 | 4 | rpl);
	say("%u entries: %u tries\n", entries, tries);
}

int main(void)
{
	/* With L instead of D it would be 16-bit code, which WHICH does not tell apart; with both it is what no 64-bit CPU takes in long mode. */
	gdt[7] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_D | FLAG_L);
	gdt[8] = descriptor(0, 0xfffff, 0xfb, FLAG_G | FLAG_D | FLAG_L);
	gdt[9] = descriptor(0, 0xfffff, 0x9a, FLAG_G | FLAG_D | FLAG_L);
	gdt[10] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D | FLAG_L); /* conforming */
	gdt[11] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_L); /* 16 bits */
	gdt[12] = descriptor(0, 0xfffff, 0xfb, FLAG_G | FLAG_L);
	static const u32 kernel[] = { 0x38, 0x48, 0x50 };

	for (u32 i = 0; i < 3; i++) {
		show("jmp", jmp_, 0, kernel[i]);
		show("call", call_, 0, kernel[i]);
		show("ret", ret_, 0, kernel[i]);
		show("iret", iret_, 0, kernel[i]);
		in_handler("int", int_, 0, kernel[i]);
		in_handler("int", int_, 3, kernel[i]);
		in_handler("call gate", gate_, 0, kernel[i]);
		if (kernel[i] != 0x50) /* TCG lets ring 3 into conforming code with RPL 0 */
			in_handler("call gate", gate_, 3, kernel[i]);
	}
	show_out(0x43);
	static const u32 user[] = { 0x43, 0x53 };

	for (u32 i = 0; i < 2; i++) {
		show("jmp", jmp3, 3, user[i]);
		show("call", call3, 3, user[i]);
		show("ret", ret3, 3, user[i]);
		show("iret", iret3, 3, user[i]);
	}
	/* L alone is 16-bit code: MOV EAX, IMM is 3 bytes there, of which the next is INC AX. */
	memcpy((void *)0x7000, "\xb8\x01\x00\x40\x90\xb9\xff\x7f\x66\xea\0\0\0\0\x08\0", 16);
	memcpy((void *)0x7100, "\xb8\x01\x00\x40\x90\xb9\xff\x7f\xcd\x30", 10);
	extern char back[];
	*(u32 *)0x700a = (u32)back;
	for (int ring = 0; ring < 2; ring++) {
		struct try t;
		extern char sixteen[], sixteen3[];

		fresh(&t);
		t.r.eax = t.r.ecx = 0;
		(ring ? go3 : go0)("L alone", ring ? sixteen3 : sixteen, &t);
		say(" eax %x ecx %x\n", t.r.eax, t.r.ecx);
	}
	/* Not present, not code, of another ring, by a selector in memory. */
	gdt[13] = gdt[7] & ~((u64)ACC_P << 40);
	gdt[14] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D | FLAG_L);
	show("absent", jmp_, 0, 13 * 8);
	show("data with L", jmp_, 0, 14 * 8);
	show("kernel's from ring 3", jmp3, 3, 0x3b);
	show("user's from ring 0", jmp_, 0, 0x43);
	/* Host selectors of Linux and the selectors that a VMM may use, and all else. */
	guess(GDT_ENTRIES);
	guess(6);
	check("nobody else's descriptor", odd == 0);
	return 0;
}

CODE(sixteen, "ljmp $0x58, $0x7000; .globl back; back: nop");
CODE(sixteen3, "ljmp $0x63, $0x7100");
