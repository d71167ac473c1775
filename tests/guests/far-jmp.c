/* Far JMP, direct and indirect: which code segments it takes, and which error codes it gives (SDM 2, JMP). */
#include "lib/rt.h"

/* The far pointer at far_to holds the selector to try and, as offset, label 1 of the code itself. */
u32 far_to[2];
CODE(jmp_mem, "movl $1f, far_to; ljmp *far_to; hlt; 1: mov %cs, %eax; ljmp $8, $2f; 2: nop");
CODE(jmp_mem3, "movl $1f, far_to; ljmp *far_to; ud2; 1: mov %cs, %eax");
CODE(jmp_direct, "ljmp $0x38, $1f; ud2; 1: mov %cs, %eax; ljmp $8, $2f; 2: nop");
CODE(jmp_mem16, "movl $0x387000, far_to; data16 ljmp *far_to");
CODE(jmp_register, ".byte 0xff, 0xe8");

static void show(const char *name, const void *code, u32 selector, int ring)
{
	struct try t;

	far_to[1] = selector;
	fresh(&t);
	(ring ? go3 : go0)(name, code, &t);
	say(" %04x: cs %04x\n", selector, t.r.eax & 0xffff);
}

int main(void)
{
	gdt[7] = gdt[1]; /* the same again */
	gdt[8] = gdt[1] & ~((u64)ACC_P << 40);
	gdt[9] = descriptor(0, 0xfffff, 0x9e, FLAG_G | FLAG_D); /* conforming, not accessed */
	gdt[10] = descriptor(0, 0xfffff, 0x98, FLAG_G | FLAG_D); /* execute only, not accessed */
	gdt[11] = descriptor(0, 0xfffff, 0xbb, FLAG_G | FLAG_D); /* ring 1 */
	gdt[12] = gdt[3];
	static const u32 selectors[] = { 0x38, 0x3b, 0x40, 0x48, 0x4b, 0x50, 0x58, 0x59, SEL_UCODE, SEL_UCODE & ~3, SEL_KDATA, 0, 4, 0x300 };

	for (u32 i = 0; i < sizeof selectors / sizeof *selectors; i++)
		show("ring 0", jmp_mem, selectors[i], 0);
	show("direct", jmp_direct, 0x38, 0);
	memcpy((void *)0x7000, "\x8c\xc8\xea\0\0\0\0\x08\0\xc3", 10); /* mov %cs,%eax; ljmp $8,$.; ret */
	*(u32 *)0x7003 = 0x7009;
	show("16-bit offset", jmp_mem16, 0, 0);
	show("register", jmp_register, 0, 0);
	static const u32 selectors3[] = { 0x63, 0x60, SEL_UCODE, 0x48, 0x4b, 0x08, 0x0b, SEL_UDATA, 3, 0x43 };

	for (u32 i = 0; i < sizeof selectors3 / sizeof *selectors3; i++)
		show("ring 3", jmp_mem3, selectors3[i], 3);
	return 0;
}
