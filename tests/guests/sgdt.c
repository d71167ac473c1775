/* SGDT stores the limit and base that the guest loaded, in every addressing form, and just six bytes (SDM 2, SGDT). */
#include "lib/rt.h"

u8 sgdt_buffer[32];
CODE(sgdt_reg, "sgdt (%ebx)");
CODE(sgdt_disp, "sgdt sgdt_buffer");
CODE(sgdt_sib, "sgdt -8(%ebx,%ecx,8)");
CODE(sgdt_stack, "sub $8, %esp; sgdt 2(%esp); mov 2(%esp), %ax; mov 4(%esp), %edx; add $8, %esp");
CODE(sgdt_segment, "sgdt %fs:(%ebx)");
CODE(sgdt_repne, ".byte 0xf2; sgdt (%ebx)");
CODE(sgdt_lock, ".byte 0xf0; sgdt (%ebx)");
CODE(sgdt_register, ".byte 0x0f, 0x01, 0xc4 ^ 4"); /* mod 3: not SGDT; undefined here */

static void show(const char *name, const void *code)
{
	struct try t;

	memset(sgdt_buffer, 0x55, sizeof sgdt_buffer);
	fresh(&t);
	t.r.ebx = (u32)sgdt_buffer;
	t.r.ecx = 1;
	t.r.edx = 0;
	t.r.eax = 0;
	go0(name, code, &t);
	for (int i = 0; i < 8; i++)
		say(" %02x", sgdt_buffer[i]);
	say("  eax %08x edx %08x\n", t.r.eax, t.r.edx);
}

int main(void)
{
	static struct dtr r = { sizeof gdt - 1, 0x700000 }; /* a base that does not move with the image */

	memcpy((void *)0x700000, gdt, sizeof gdt);
	asm volatile("lgdt %0" : : "m"(r));
	show("register", sgdt_reg);
	show("displacement", sgdt_disp);
	show("sib", sgdt_sib);
	show("stack", sgdt_stack);
	show("segment", sgdt_segment);
	show("repne", sgdt_repne);
	show("lock", sgdt_lock);
	show("mod 3", sgdt_register);
	return 0;
}
