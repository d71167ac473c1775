/* Pairs of exceptions that make a double fault; its error code is 0 (SDM 3, table 6-5). */
#include "lib/rt.h"

CODE(divide, "xor %ecx, %ecx; div %ecx");
CODE(protect, "mov $0x208, %eax; mov %eax, %fs");
CODE(absent, "mov $0x3b, %eax; mov %eax, %fs");
CODE(touch, "mov 0x40000000, %eax");

/* As report(), but EIP of a double fault is undefined. */
static void show(const char *name, const void *code, int ring)
{
	struct try t;

	fresh(&t);
	t.code = code;
	(ring ? try3 : try0)(&t, code);
	if (t.vector == 8)
		say("%s ring %u: #DF error %u\n", name, ring, t.error);
	else
		report(name, &t);
}

static void gates(int which)
{
	for (int v = 0; v < 20; v++)
		idt[v] = v == which ? gate(SEL_KCODE, stub(v), 0x0e) : gate(SEL_KCODE, stub(v), GATE_INT);
}

int main(void)
{
	gdt[7] = gdt[4] & ~((u64)ACC_P << 40);
	paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP);
	for (int ring = 0; ring < 4; ring += 3) {
		gates(0);
		show("#DE, its gate absent", divide, ring);
		gates(13);
		show("#GP, its gate absent", protect, ring);
		gates(11);
		show("#NP, its gate absent", absent, ring);
		gates(14);
		show("#PF, its gate absent", touch, ring);
		gates(-1);
		show("all there", touch, ring);
	}
	gates(-1);
	/* A gate whose code segment is bad: contributory too. */
	idt[14] = gate(SEL_KDATA, stub(14), GATE_INT);
	show("#PF, gate to data", touch, 0);
	show("#PF, gate to data", touch, 3);
	return 0;
}
