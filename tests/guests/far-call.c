/* Far CALL and RETF within a ring: the pushed CS and EIP, and the errors (SDM 2, CALL, RET). */
#include "lib/rt.h"

u32 call_to[2];
CODE(call_direct, "mov %esp, %ebp; lcall $0x38, $1f; 3: sub %esp, %ebp; jmp 2f; 1: mov %cs, %eax; mov (%esp), %ebx; sub $3b, %ebx; mov 4(%esp), %ecx; lret; 2: mov %cs, %edx");
CODE(call_mem, "mov %esp, %ebp; movl $1f, call_to; lcall *call_to; jmp 2f; 1: mov %cs, %eax; lret; 2: sub %esp, %ebp");
CODE(ret_imm, "mov %esp, %ebp; push $1; push $2; push $8; push $1f; lret $8; 1: sub %esp, %ebp");
CODE(ret_null, "push $0; push $1f; lret; 1: nop");
CODE(ret_absent, "push $0x40; push $1f; lret; 1: nop");
CODE(ret_data, "push $0x10; push $1f; lret; 1: nop");
CODE(ret_inner, "push $8; push $1f; lret; 1: nop");
CODE(ret_same3, "push $0x1b; push $1f; lret; 1: mov %cs, %eax");
CODE(ret_16, "pushw $8; pushw $0x7000; data16 lret");

static void show(const char *name, const void *code, int ring)
{
	struct try t;

	fresh(&t);
	(ring ? go3 : go0)(name, code, &t);
	if (t.vector >= 0x30)
		say(" eax %04x ebx %08x ecx %04x edx %04x ebp %08x\n", t.r.eax & 0xffff, t.r.ebx, t.r.ecx & 0xffff, t.r.edx & 0xffff, t.r.ebp);
}

int main(void)
{
	static const u32 selectors[] = { 0x38, 0x3b, 0x40, SEL_KDATA, 0, 0x300, SEL_UCODE };

	gdt[7] = gdt[1];
	gdt[8] = gdt[1] & ~((u64)ACC_P << 40);
	show("direct", call_direct, 0);
	for (u32 i = 0; i < sizeof selectors / sizeof *selectors; i++) {
		call_to[1] = selectors[i];
		say("%04x ", selectors[i]);
		show("indirect", call_mem, 0);
	}
	show("ret n", ret_imm, 0);
	show("ret null", ret_null, 0);
	show("ret absent", ret_absent, 0);
	show("ret data", ret_data, 0);
	memcpy((void *)0x7000, "\x8c\xc8\xc3", 3);
	show("ret 16", ret_16, 0);
	show("ret inner ring", ret_inner, 3);
	show("ret same ring 3", ret_same3, 3);
	return 0;
}
