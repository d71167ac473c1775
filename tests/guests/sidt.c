/* SIDT stores the limit and base that the guest loaded (SDM 2, SIDT). */
#include "lib/rt.h"

u8 sidt_buffer[16];
CODE(sidt_reg, "sidt (%ebx)");
CODE(sidt_disp, "sidt sidt_buffer");
CODE(sidt_16, "addr16 sidt 0x7000"); /* 16-bit address: only below 64 KiB */

static void show(const char *name, const void *code, const u8 *where)
{
	struct try t;

	memset(sidt_buffer, 0x55, sizeof sidt_buffer);
	fresh(&t);
	t.r.ebx = (u32)sidt_buffer;
	go0(name, code, &t);
	for (int i = 0; i < 8; i++)
		say("%02x%c", where[i], i == 7 ? '\n' : ' ');
}

int main(void)
{
	static struct dtr r = { 8 * 64 - 1, 0x701000 };

	memcpy((void *)0x701000, idt, sizeof idt);
	asm volatile("lidt %0" : : "m"(r));
	show("register", sidt_reg, sidt_buffer);
	show("displacement", sidt_disp, sidt_buffer);
	memset((void *)0x7000, 0x55, 8);
	show("16-bit address", sidt_16, (u8 *)0x7000);
	return 0;
}
