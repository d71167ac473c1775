/* Faults while an event is delivered: IDT, GDT or new stack on an absent page are #PF with a supervisor's error code (SDM 3, 4.7, 6.13). */
#include "lib/rt.h"

CODE(trap_40, "int $0x40");
CODE(load_fs, "mov $0x38, %eax; mov %eax, %fs; mov %fs, %ebx");
CODE(undefined, "ud2");

static u32 *pd;

static void seen(struct frame *f)
{
	say("vector %02x\n", f->vector);
}

static void move_tables(void)
{
	/* GDT at 0x40000000 (+ second page), IDT at 0x40010000; both pages map copies. */
	static struct dtr g = { 0x1fff, 0x40000000 }, i = { 0x7ff, 0x40010000 - 0x100 };
	u64 *copy = page(), *second = page(), *gates = page(), *before = page();

	memcpy(copy, gdt, sizeof gdt);
	copy[7] = 0;
	second[0] = gdt[4]; /* selector 0x1003 */
	memcpy((u8 *)before + 0xf00, idt, 0x100);
	memcpy(gates, (u8 *)idt + 0x100, sizeof idt - 0x100);
	*pte(pd, 0x40000000) = (u32)copy | PG_P | PG_W | PG_A;
	*pte(pd, 0x40001000) = (u32)second | PG_W;
	*pte(pd, 0x4000f000) = (u32)before | PG_P | PG_W;
	*pte(pd, 0x40010000) = (u32)gates | PG_P | PG_W;
	asm volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
}

CODE(load_fs_far, "mov $0x1003, %eax; mov %eax, %fs; mov %fs, %ebx");

/* As BOTH(), but which byte of a descriptor faults first is the CPU's affair. */
static void both(const char *name, const void *code)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		t.code = code;
		(ring ? try3 : try0)(&t, code);
		t.cr2 &= ~7;
		report(name, &t);
	}
}

int main(void)
{

	pd = identity_map(16, PG_P | PG_W | PG_U);
	paging_on(pd, CR0_WP);
	set_gate(0x40, stub(0x40), GATE_INT | GATE_DPL3);
	on(0x40, seen);
	move_tables();
	both("trap_40", trap_40);
	both("load_fs", load_fs);
	say("second page of the GDT absent\n");
	both("load_fs_far", load_fs_far);
	*pte(pd, 0x40001000) |= PG_P;
	invlpg(0x40001000);
	both("load_fs_far", load_fs_far);
	say("and read-only, not accessed\n");
	((u64 *)(*pte(pd, 0x40001000) & ~0xfffu))[0] &= ~((u64)ACC_A << 40);
	*pte(pd, 0x40001000) &= ~PG_W;
	invlpg(0x40001000);
	/* Setting the accessed bit is a write: #PF in a page that is not writable. */
	both("load_fs_far", load_fs_far);
	say("second page of the IDT absent\n");
	*pte(pd, 0x40010000) &= ~PG_P;
	invlpg(0x40010000);
	both("trap_40", trap_40);
	*pte(pd, 0x40010000) |= PG_P;
	invlpg(0x40010000);
	both("trap_40", trap_40);
	return 0;
}
