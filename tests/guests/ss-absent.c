/* An absent stack segment is #SS(selector) for MOV SS, POP SS, LSS, and #NP(selector) for IRET (SDM 2, each of them). */
#include "lib/rt.h"

CODE(mov_ss, "mov %eax, %ss");
CODE(pop_ss, "push %eax; pop %ss");
CODE(lss, "push %eax; push %esp; lss (%esp), %ecx");
CODE(iret_ss, "push %eax; push $user_stack_top-128; push $2; push $0x1b; push $1f; iret; 1: nop");

static void show(const char *name, const void *code, u32 selector)
{
	struct try t;

	fresh(&t);
	t.r.eax = selector;
	go0(name, code, &t);
}

int main(void)
{
	gdt[7] = gdt[2] & ~((u64)ACC_P << 40);
	gdt[8] = gdt[4] & ~((u64)ACC_P << 40);
	show("mov ss", mov_ss, 0x38);
	show("pop ss", pop_ss, 0x38);
	show("lss", lss, 0x38);
	show("iret", iret_ss, 0x43);
	return 0;
}
