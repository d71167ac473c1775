/* Loading a data segment sets the accessed bit of the guest's own descriptor, in GDT and LDT, from both rings (SDM 3, 3.4.5.1). */
#include "lib/rt.h"

CODE(load, "mov %ecx, %fs; xor %eax, %eax; mov %eax, %fs");

static void show(const char *name, u64 *entry, u32 selector, u8 access)
{
	for (int ring = 0; ring < 4; ring += 3) {
		struct try t;

		*entry = descriptor(0, 0xfffff, access, FLAG_G | FLAG_D | FLAG_AVL);
		fresh(&t);
		t.r.ecx = selector;
		(ring ? go3 : go0)(name, load, &t);
		say(" ring %u: %02x -> %02x\n", ring, access, (u32)(*entry >> 40) & 0xff);
	}
}

int main(void)
{
	gdt[6] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	show("gdt", &gdt[7], 0x3b, 0xf2);
	show("gdt, set already", &gdt[7], 0x3b, 0xf3);
	show("gdt, read-only", &gdt[7], 0x3b, 0xf0);
	show("gdt, code", &gdt[7], 0x3b, 0xfa);
	show("gdt, kernel's", &gdt[7], 0x38, 0x92);
	show("gdt, absent", &gdt[7], 0x3b, 0x72);
	show("ldt", &ldt[2], 0x17, 0xf2);
	return 0;
}
