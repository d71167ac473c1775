/* IRET to ring 3: which frames are refused, with which error code, and that data segments of the kernel are nulled (SDM 2, IRET). */
#include "lib/rt.h"

/* Where ring 3 comes back to: the boot stack's unused end. */
extern char boot_stack[];

/* ecx = CS, edx = SS of the frame. */
CODE(iret_out, "mov %esp, %ebp; push %edx; push $user_stack_top-128; push $2; push %ecx; push $1f; iret; 1: mov %ds, %eax; mov %es, %ebx; mov %fs, %esi; mov %gs, %edi; int $0x30");

static void show(const char *name, u32 cs, u32 ss)
{
	struct try t;

	fresh(&t);
	t.r.ecx = cs;
	t.r.edx = ss;
	tss->esp0 = (u32)boot_stack + 4096;
	go0(name, iret_out, &t);
	if (t.vector == VEC_DONE)
		say(" cs %04x ss %04x ds %04x es %04x fs %04x gs %04x\n", t.cs, t.ss, t.r.eax, t.r.ebx, t.r.esi, t.r.edi);
}

int main(void)
{
	gdt[7] = gdt[3] & ~((u64)ACC_P << 40);
	gdt[9] = descriptor(0, 0xfffff, 0xf1, FLAG_G | FLAG_D); /* read-only data */
	asm volatile("mov %0, %%es" : : "r"(SEL_UDATA));
	show("right", SEL_UCODE, SEL_UDATA);
	show("ss null", SEL_UCODE, 0);
	show("ss null rpl 3", SEL_UCODE, 3);
	show("ss of the kernel", SEL_UCODE, SEL_KDATA);
	show("ss rpl 0", SEL_UCODE, SEL_UDATA & ~3);
	show("ss read-only", SEL_UCODE, 9 * 8 + 3);
	show("ss beyond the limit", SEL_UCODE, 0xfff3);
	show("cs not present", 7 * 8 + 3, SEL_UDATA);
	show("cs of the kernel, rpl 3", SEL_KCODE | 3, SEL_UDATA);
	show("cs data", SEL_UDATA, SEL_UDATA);
	show("cs in no LDT", 0x0f, SEL_UDATA);
	return 0;
}
