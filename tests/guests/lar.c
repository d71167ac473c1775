/* LAR shows the guest's own descriptor rights to each ring, and leaves the register alone where it may not (SDM 2, LAR). */
#include "lib/rt.h"

CODE(lar32, "lar %ecx, %eax; pushf; pop %edx");
CODE(lar16, "lar %cx, %ax; pushf; pop %edx");
CODE(lar_mem, "push %ecx; lar (%esp), %eax; pushf; pop %edx; pop %ecx");

static void show(u32 selector)
{
	struct try t;

	say("%04x", selector);
	/* Ring 3 and gates or task segments of DPL 3: see lar-user-system. */
	for (int ring = 0; ring < (selector == 10 * 8 || selector == 15 * 8 ? 3 : 4); ring += 3)
		for (int form = 0; form < 3; form++) {
			fresh(&t);
			t.r.ecx = selector;
			t.r.eax = 0;
			(ring ? try3 : try0)(&t, form == 0 ? lar32 : form == 1 ? lar16 : lar_mem);
			/* Bits 19..16 are undefined. */
			say(" %s %08x", t.r.edx & F_ZF ? "zf" : "--", t.r.eax & 0xfff0ffff);
		}
	say("\n");
}

int main(void)
{
	gdt[6] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	gdt[7] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D); /* conforming */
	gdt[8] = descriptor(0, 0xfffff, 0x13, FLAG_G | FLAG_D); /* not present */
	gdt[9] = descriptor(0, 0xffff, 0xf1, 0); /* read-only, 16 bits, ring 3 */
	gdt[10] = gate(SEL_KCODE, 0, 0xec); /* call gate, ring 3 */
	gdt[11] = gate(SEL_KCODE, 0, 0xee); /* interrupt gate: not for LAR */
	gdt[12] = descriptor(0, 0xfffff, 0xb3, FLAG_G | FLAG_D); /* ring 1 */
	gdt[13] = descriptor(0, 0xfffff, 0xd7, FLAG_G | FLAG_AVL); /* ring 2, expand down */
	gdt[14] = descriptor(0, 0, 0, 0);
	gdt[15] = descriptor((u32)tss, 103, 0xe9, 0); /* free TSS, ring 3 */
	for (u32 s = 0; s < 16 * 8; s += 8)
		show(s);
	show(SEL_UCODE);
	show(SEL_KCODE | 3);
	show(8 * 12 + 1);
	show(8 * 12 + 2);
	show(0x0c);
	show(0xfff8);
	return 0;
}
