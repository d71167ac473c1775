/* VERR and VERW look at the guest's own descriptors, each ring by its own rights (SDM 2, VERR). */
#include "lib/rt.h"

CODE(verr, "verr %cx; pushf; pop %edx; push %ecx; verw (%esp); pushf; pop %eax; pop %ecx");

static void show(u32 selector)
{
	struct try t;

	say("%04x", selector);
	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		t.r.ecx = selector;
		(ring ? try3 : try0)(&t, verr);
		say("  ring %u %s %s", ring, t.r.edx & F_ZF ? "read" : "-", t.r.eax & F_ZF ? "write" : "-");
	}
	say("\n");
}

int main(void)
{
	gdt[6] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	gdt[7] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D); /* conforming, readable */
	gdt[8] = descriptor(0, 0xfffff, 0x9d, FLAG_G | FLAG_D); /* conforming, execute only */
	gdt[9] = descriptor(0, 0xffff, 0xf1, 0); /* read-only, ring 3 */
	gdt[10] = descriptor(0, 0xffff, 0xf9, 0); /* execute only, ring 3 */
	gdt[11] = descriptor(0, 0xffff, 0xb3, 0); /* ring 1 */
	gdt[12] = descriptor(0, 0xffff, 0x91, 0); /* read-only, ring 0 */
	for (u32 s = 0; s < 13 * 8; s += 8)
		show(s);
	show(SEL_UCODE);
	show(SEL_UDATA);
	show(SEL_KDATA | 3);
	show(11 * 8 + 1);
	show(11 * 8 + 2);
	show(0x14);
	show(0xfff8);
	return 0;
}
