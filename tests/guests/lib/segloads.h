/* The selectors that the segment-load guests try, one per rule of the manual's MOV pseudocode. Included once. */
#include "rt.h"

static const struct { const char *name; u32 selector; } segloads[] = {
	{ "null", 0 }, { "null rpl 3", 3 }, { "kernel data", SEL_KDATA }, { "kernel data rpl 3", SEL_KDATA | 3 },
	{ "user data", SEL_UDATA }, { "user data rpl 0", SEL_UDATA & ~3 }, { "code", SEL_KCODE }, { "user code", SEL_UCODE },
	{ "task", SEL_TSS }, { "absent data", 7 * 8 }, { "execute only", 8 * 8 }, { "read only", 9 * 8 },
	{ "conforming", 10 * 8 }, { "conforming rpl 3", 10 * 8 + 3 }, { "ring 1 data", 11 * 8 + 1 }, { "no LDT", 4 },
	{ "beyond the limit", 0x200 }, { "far beyond", 0xfffb }, { "absent user data", 12 * 8 + 3 }, { "expand down", 13 * 8 },
	{ "not accessed", 14 * 8 }, { "empty", 15 * 8 }, { "user read only", 16 * 8 + 3 },
};
enum { SEGLOADS = sizeof segloads / sizeof *segloads };

static void segloads_gdt(void)
{
	gdt[7] = gdt[2] & ~((u64)ACC_P << 40);
	gdt[8] = descriptor(0, 0xfffff, 0x99, FLAG_G | FLAG_D);
	gdt[9] = descriptor(0, 0xfffff, 0x91, FLAG_G | FLAG_D);
	gdt[10] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D);
	gdt[11] = descriptor(0, 0xfffff, 0xb3, FLAG_G | FLAG_D);
	gdt[12] = gdt[4] & ~((u64)ACC_P << 40);
	gdt[13] = descriptor(0, 0, 0x97, FLAG_G | FLAG_D);
	gdt[14] = descriptor(0, 0xfffff, 0x92, FLAG_G | FLAG_D);
	gdt[15] = 0;
	gdt[16] = descriptor(0, 0xfffff, 0xf1, FLAG_G | FLAG_D);
}

/* Try all selectors (in ECX) with one piece of code. */
static void segloads_all(const char *name, const void *code, int ring)
{
	struct try t;

	say("%s ring %u\n", name, ring);
	segloads_gdt();
	for (int i = 0; i < SEGLOADS; i++) {
		fresh(&t);
		t.r.ecx = segloads[i].selector;
		(ring ? go3 : go0)(segloads[i].name, code, &t);
	}
	say("the accessed bit is set: %s\n", gdt[14] & (u64)ACC_A << 40 ? "yes" : "no");
}
