/* Segments loaded from an LDT stay usable when LDTR goes to another table or to none (SDM 3, 3.4.3); only a load sees the new state. */
#include "lib/rt.h"

static u32 cells[2] = { 111, 222 };
static u64 other[2];
/* CX is loaded into LDTR once FS and GS are. */
CODE(use, "mov $0xf, %eax; mov %eax, %fs; mov $0x2f, %eax; mov %eax, %gs; lldt %cx; mov %fs:0, %eax; mov %gs:0, %ebx; cli; pushf; "
	  "pop %ecx; push %fs; pop %edx; mov %gs, %esi; mov %fs:0, %edi");
CODE(reload, "mov $0xf, %eax; mov %eax, %fs; xor %eax, %eax; lldt %ax; mov %fs, %eax; mov %eax, %fs");

static void show(const char *name, u32 table)
{
	struct try t;

	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	fresh(&t);
	t.r.ecx = table;
	go0(name, use, &t);
	say(" %u %u fs %04x gs %04x %u\n", t.r.eax, t.r.ebx, t.r.edx & 0xffff, t.r.esi & 0xffff, t.r.edi);
}

int main(void)
{
	struct try t;

	ldt[1] = descriptor((u32)&cells[0], 0xfffff, 0xf3, FLAG_G | FLAG_D);
	ldt[5] = descriptor((u32)&cells[1], 0xfffff, 0xf3, FLAG_G | FLAG_D);
	other[1] = descriptor((u32)&cells[1], 0xfffff, 0xf3, FLAG_G | FLAG_D);
	gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	gdt[SEL_FREE / 8] = descriptor((u32)other, sizeof other - 1, 0x82, 0);
	show("its own table", SEL_LDT);
	show("a shorter table", SEL_FREE);
	show("no table", 0);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	fresh(&t);
	go0("reload", reload, &t);
	say("\n");
	return 0;
}
