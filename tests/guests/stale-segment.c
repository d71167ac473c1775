/* A loaded segment keeps its hidden part when its descriptor changes or goes; only a load sees the table (SDM 3, 3.4.3). */
#include "lib/rt.h"

static u32 cells[2] = { 111, 222 };
CODE(use, "mov $0x38, %eax; mov %eax, %fs; mov %fs:0, %ebx; movl $0, gdt+60; mov %fs:0, %ecx; cli; pushf; pop %esi; push %fs; pop %edx; mov %fs:0, %edi");

int main(void)
{
	struct try t;

	gdt[7] = descriptor((u32)&cells[0], 0xfffff, 0x93, FLAG_G | FLAG_D);
	fresh(&t);
	go0("use", use, &t);
	say(" %u %u %u fs %04x\n", t.r.ebx, t.r.ecx, t.r.edi, t.r.edx & 0xffff);
	gdt[7] = descriptor((u32)&cells[1], 0xfffff, 0x93, FLAG_G | FLAG_D);
	asm volatile("mov %w1, %%fs; mov %%fs:0, %0" : "=r"(t.r.eax) : "r"(0x38));
	gdt[7] = descriptor((u32)&cells[0], 0xfffff, 0x93, FLAG_G | FLAG_D);
	asm volatile("mov %%fs:0, %0" : "=r"(t.r.ebx));
	asm volatile("mov %w1, %%fs; mov %%fs:0, %0" : "=r"(t.r.ecx) : "r"(0x38));
	say("%u, changed %u, loaded %u\n", t.r.eax, t.r.ebx, t.r.ecx);
	gdt[7] = 0;
	asm volatile("mov %%fs:0, %0" : "=r"(t.r.ebx));
	say("gone %u\n", t.r.ebx);
	return 0;
}
