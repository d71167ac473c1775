/* RETF to an outer ring loads SS:ESP from the stack, adds its count to both stacks and nulls the kernel's data segments (SDM 2, RET). */
#include "lib/rt.h"

extern char boot_stack[];
CODE(out, "push %ss; pop %es; push %edx; push $user_stack_top-128; push $0; push $0; push %ecx; push $1f; lret $8; 1: mov %ds, %eax; mov %es, %ebx; mov %esp, %ebp; sub $user_stack_top, %ebp; int $0x30");

static void show(const char *name, u32 cs, u32 ss)
{
	struct try t;

	fresh(&t);
	t.r.ecx = cs;
	t.r.edx = ss;
	tss->esp0 = (u32)boot_stack + 4096;
	go0(name, out, &t);
	if (t.vector == VEC_DONE)
		say(" cs %04x ss %04x ds %04x es %04x esp %08x\n", t.cs, t.ss, t.r.eax, t.r.ebx, t.r.ebp);
}

int main(void)
{
	show("right", SEL_UCODE, SEL_UDATA);
	show("ss null", SEL_UCODE, 0);
	show("ss of the kernel", SEL_UCODE, SEL_KDATA);
	show("cs of the kernel rpl 3", SEL_KCODE | 3, SEL_UDATA);
	show("cs data", SEL_UDATA, SEL_UDATA);
	return 0;
}
