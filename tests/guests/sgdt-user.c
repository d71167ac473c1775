/* SGDT and SIDT in ring 3 without UMIP store what the kernel loaded (SDM 2, SGDT). */
#include "lib/rt.h"

u8 both_tables[16];
CODE(tables, "sgdt both_tables; sidt both_tables+8");

int main(void)
{
	static struct dtr g = { sizeof gdt - 1, 0x700000 }, i = { sizeof idt - 1, 0x701000 };

	memcpy((void *)0x700000, gdt, sizeof gdt);
	memcpy((void *)0x701000, idt, sizeof idt);
	asm volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
	go3("tables", tables, 0);
	for (int n = 0; n < 16; n++)
		say("%02x%c", both_tables[n], n == 15 ? '\n' : ' ');
	return 0;
}
