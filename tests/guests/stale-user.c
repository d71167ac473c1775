/* A program goes on with the hidden part of GS when GS's descriptor goes, while DS and SS are one selector (SDM 3, 3.4.3). */
#include "lib/rt.h"

static u32 cell = 111;
CODE(use, "mov %ecx, %gs; mov %gs:0, %eax; movl $0, gdt+60; mov %gs:0, %ebx; .rept 16; nop; .endr; mov %ds, %edx; mov %gs:0, %edi; push %ds; pop %esi");

int main(void)
{
	struct try t;

	pic_init();
	gdt[7] = descriptor((u32)&cell, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	fresh(&t);
	t.r.ecx = 7 * 8 + 3;
	t.r.eflags |= F_IF;
	go3("use", use, &t);
	say(" %u %u %u ds %04x %04x\n", t.r.eax, t.r.ebx, t.r.edi, t.r.edx & 0xffff, t.r.esi & 0xffff);
	return 0;
}
