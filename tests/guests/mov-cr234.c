/* MOV CR2, CR3, CR4 read back; CR1, CR5, CR6, CR7 are #UD; the mod bits of MOV CR do not matter (SDM 2, MOV CR). */
#include "lib/rt.h"

CODE(cr2, "mov %ecx, %cr2; mov %cr2, %eax");
CODE(cr3, "mov %ecx, %cr3; mov %cr3, %eax");
CODE(cr4, "mov %ecx, %cr4; mov %cr4, %eax");
CODE(cr1, ".byte 0x0f, 0x20, 0xc8");
CODE(cr5, ".byte 0x0f, 0x20, 0xe8");
CODE(cr6, ".byte 0x0f, 0x22, 0xf0");
CODE(cr7, ".byte 0x0f, 0x22, 0xf8");
CODE(mod_0, ".byte 0x0f, 0x20, 0x00; mov %eax, %ebx; mov %cr0, %eax; sub %eax, %ebx");
CODE(data16, ".byte 0x66; mov %ecx, %cr2; .byte 0x66; mov %cr2, %eax");

static void show(const char *name, const void *code, u32 v)
{
	struct try t;

	fresh(&t);
	t.r.ecx = v;
	go0(name, code, &t);
	say(" %08x: %08x\n", v, t.r.eax);
}

int main(void)
{
	struct try t;

	show("cr2", cr2, 0x12345678);
	show("cr2", cr2, 0xffffffff);
	show("data16", data16, 0x89abcdef);
	show("cr3", cr3, 0x00123000);
	show("cr3", cr3, 0x7ffff000);
	show("cr3 with PWT PCD", cr3, 0x00200018);
	show("cr4", cr4, 0);
	show("cr4", cr4, CR4_TSD);
	show("cr4", cr4, CR4_PSE);
	show("cr4", cr4, CR4_PGE);
	show("cr4", cr4, CR4_PCE);
	show("cr4", cr4, CR4_OSFXSR | CR4_OSXMMEXCPT);
	show("cr4", cr4, CR4_PSE | CR4_PGE | CR4_TSD | CR4_OSFXSR);
	go0("cr1", cr1, 0);
	go0("cr5", cr5, 0);
	go0("cr6", cr6, 0);
	go0("cr7", cr7, 0);
	fresh(&t);
	go0("mod 0", mod_0, &t);
	say(" difference %u\n", t.r.ebx);
	return 0;
}
