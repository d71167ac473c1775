/* LLDT and LTR: what they take, the busy bit, the error codes; selectors of the LDT work (SDM 2, LLDT, LTR). */
#include "lib/rt.h"

CODE(do_lldt, "lldt %cx; sldt %ax");
CODE(do_ltr, "ltr %cx; str %ax");
CODE(use_ldt, "mov %ecx, %fs; mov %fs, %eax; mov %fs:0, %ebx; xor %edx, %edx; mov %edx, %fs");

static void show(const char *name, const void *code, u32 selector)
{
	struct try t;

	fresh(&t);
	t.r.ecx = selector;
	go0(name, code, &t);
	say(" %04x: eax %04x\n", selector, t.r.eax & 0xffff);
}

int main(void)
{
	static u32 cell = 0x12345678;
	struct try t;

	gdt[6] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	gdt[7] = descriptor((u32)ldt, 15, 0x02, 0);
	gdt[8] = descriptor((u32)tss, 103, 0x89, 0);
	gdt[9] = descriptor((u32)tss, 103, 0x09, 0);
	gdt[10] = descriptor((u32)ldt, 15, 0x82, 0);
	ldt[1] = descriptor((u32)&cell, 3, 0x93, FLAG_D);
	ldt[2] = descriptor((u32)&cell, 3, 0xf3, FLAG_D);
	show("lldt null", do_lldt, 0);
	show("ldt selector, no LDT", use_ldt, 0x0c);
	show("lldt", do_lldt, 0x30);
	fresh(&t);
	t.r.ecx = 0x0c;
	go0("ldt selector", use_ldt, &t);
	say(" %04x %08x\n", t.r.eax, t.r.ebx);
	fresh(&t);
	t.r.ecx = 0x17;
	go3("ldt selector in ring 3", use_ldt, &t);
	say(" %04x %08x\n", t.r.eax, t.r.ebx);
	ldt[1] = 0;
	show("emptied", use_ldt, 0x0c);
	show("beyond its limit", use_ldt, 0x84);
	show("lldt absent", do_lldt, 0x38);
	show("lldt data", do_lldt, SEL_KDATA);
	show("lldt of a local selector", do_lldt, 0x0c);
	show("lldt beyond", do_lldt, 0x300);
	show("lldt shorter", do_lldt, 0x50);
	show("beyond the shorter limit", use_ldt, 0x14);
	show("ltr busy", do_ltr, SEL_TSS);
	show("ltr", do_ltr, 0x40);
	say("busy now: %x\n", (u32)(gdt[8] >> 40) & 15);
	show("ltr again", do_ltr, 0x40);
	show("ltr absent", do_ltr, 0x48);
	show("ltr data", do_ltr, SEL_KDATA);
	show("ltr beyond", do_ltr, 0x300);
	go3("ring 3", use_ldt, 0);
	return 0;
}
