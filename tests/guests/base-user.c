/* Ring 3 with segments of its own base (as thread-local storage has): GS through GDT and LDT, changed under it (SDM 3, 3.4.5). */
#include "lib/rt.h"

static u32 tls[4] = { 10, 20, 30, 40 };
CODE(read_gs, "mov %ecx, %gs; mov %gs:0, %eax; mov %gs, %edx");

static void show(const char *name, u32 selector)
{
	struct try t;

	fresh(&t);
	t.r.ecx = selector;
	go3(name, read_gs, &t);
	say(" eax %u gs %04x\n", t.r.eax, t.r.edx & 0xffff);
}

int main(void)
{
	gdt[6] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	gdt[7] = descriptor((u32)&tls[0], 0xfffff, 0xf3, FLAG_G | FLAG_D);
	ldt[1] = descriptor((u32)&tls[1], 0xfffff, 0xf3, FLAG_G | FLAG_D);
	show("gdt", 7 * 8 + 3);
	show("ldt", 8 + 4 + 3);
	for (int i = 0; i < 4; i++) { /* as a scheduler does */
		gdt[7] = descriptor((u32)&tls[i], 0xfffff, 0xf3, FLAG_G | FLAG_D);
		ldt[1] = descriptor((u32)&tls[3 - i], 0xfffff, 0xf2, FLAG_G | FLAG_D);
		show("gdt", 7 * 8 + 3);
		show("ldt", 8 + 4 + 3);
	}
	gdt[7] = 0;
	show("gone", 7 * 8 + 3);
	return 0;
}
