/* Far JMP, CALL and RETF through memory in 64-bit mode, within a ring, to ring 3's compatibility code by RETF, and the
 * errors; the direct forms are not there (SDM 2, JMP, CALL, RET). */
#include "../lib64/rt.h"

u64 far_to[2];
CODE(jmp64, "movq $1f, far_to; mov %ecx, far_to+8; rex.W ljmp *far_to; ud2; 1: mov %cs, %eax");
CODE(call64, "mov %rsp, %rbp; movq $1f, far_to; mov %ecx, far_to+8; rex.W lcall *far_to; 3: jmp 2f; 1: mov %cs, %eax; mov (%rsp), %rbx; sub $3b, %rbx; mov 8(%rsp), %rdx; lretq; 2: sub %rsp, %rbp; mov %cs, %esi");
CODE(ret64, "push %rcx; push $1f; lretq; 1: mov %cs, %eax");
CODE(ret_imm, "mov %rsp, %rbp; push $1; push $2; push $8; push $1f; lretq $16; 1: sub %rsp, %rbp");
CODE(ret_out, "mov %rsp, tss_rsp0; pushq $0x23; push %rbx; push %rcx; push %rdx; lretq");
CODE(direct, ".byte 0xea, 0, 0, 0, 0, 8, 0");
CODE(direct_call, ".byte 0x9a, 0, 0, 0, 0, 8, 0");
CODE(register_form, ".byte 0xff, 0xe8");
CODE(arrive, "mov %cs, %eax; mov %ss, %ebx; int $0x30");
CODE32(arrive32, "mov %cs, %eax; mov %ss, %ebx; int $0x30");
CODE(user_ret, "push $8; lea 1f(%rip), %rax; push %rax; lretq; 1: nop");
CODE(user_same, "push $0x2b; lea 1f(%rip), %rax; push %rax; lretq; 1: mov %cs, %eax");

static void show(const char *name, const void *code, u64 selector)
{
	struct try t;

	fresh(&t);
	t.r.rcx = selector;
	say("%lx ", selector);
	go0(name, code, &t);
	if (t.vector == (u64)-1)
		say(" rax %lx rbx %lx rdx %lx rbp %lx\n", t.r.rax & 0xffff, t.r.rbx, t.r.rdx & 0xffff, t.r.rbp);
}

int main(void)
{
	static const u32 selectors[] = { SEL_KCODE, 0x58, 0x60, SEL_KDATA, 0, 0x400, SEL_UCODE, SEL_UCODE & ~3, 0x68 };
	struct try t;

	gdt[11] = gdt[1];
	gdt[12] = gdt[1] & ~((u64)ACC_P << 40);
	gdt[13] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_L); /* conforming */
	for (u32 i = 0; i < sizeof selectors / sizeof *selectors; i++) {
		show("jmp 64", jmp64, selectors[i]);
		show("call 64", call64, selectors[i]);
		show("ret 64", ret64, selectors[i]);
	}
	show("ret n", ret_imm, 0);
	go0("direct jmp", direct, 0);
	go0("direct call", direct_call, 0);
	go0("register form", register_form, 0);
	for (int compat = 0; compat < 2; compat++) {
		fresh(&t);
		t.r.rcx = compat ? SEL_UCODE32 : SEL_UCODE;
		t.r.rdx = low(compat ? arrive32 : arrive);
		t.r.rbx = low(user_stack_top) - 128;
		t.code = ret_out;
		try0(&t, ret_out);
		say("ret to ring 3: %s cs %lx ss %lx rax %lx\n", t.vector == VEC_DONE ? "done" : vector_name(t.vector), t.cs, t.ss, t.r.rax & 0xffff);
	}
	go3("ret inward", user_ret, 0);
	fresh(&t);
	go3("ret in ring 3", user_same, &t);
	say(" cs %lx\n", t.r.rax & 0xffff);
	return 0;
}
