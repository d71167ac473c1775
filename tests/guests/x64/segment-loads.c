/* Loads of DS, ES, FS, GS and SS by MOV, POP, LFS, LGS in ring 0 and ring 3 of 64-bit code: null, wrong rings, absent ones, and what is read back
 * (SDM 2, MOV, LSS; SDM 3, 5.4.1.1). */
#include "../lib64/rt.h"

u64 pointer[2] USER;
CODE(to_ds, "mov %ecx, %ds; mov %ds, %eax");
CODE(to_es, "mov %ecx, %es; mov %es, %rax");
CODE(pop_fs, "push %rcx; popq %fs; mov %fs, %eax");
CODE(pop_gs, "push %rcx; popq %gs; pushq %gs; pop %rax");
CODE(to_ss, "mov %ecx, %ss; mov %ss, %eax; mov $0x10, %ecx; mov %ecx, %ss");
CODE(to_ss3, "mov %ecx, %ss; mov %ss, %eax");
CODE(lfs_, "movl $0x12345678, pointer(%rip); mov %cx, pointer+4(%rip); lfs pointer(%rip), %edx; mov %fs, %eax");
CODE(lgs_, "movl $0x12345678, pointer(%rip); mov %cx, pointer+4(%rip); lgs pointer(%rip), %edx; mov %gs, %eax");
CODE(from, "mov %cs, %rax; mov %ss, %ebx; mov %ds, %dx; mov %es, -16(%rsp); mov -16(%rsp), %si");
CODE(push16, "pushw %fs; popw %ax; data16 push %gs; data16 pop %gs; xor %ebx, %ebx");

static const struct { const char *name; u32 selector; } all[] = {
	{ "null", 0 }, { "null rpl 3", 3 }, { "kernel data", SEL_KDATA }, { "kernel data rpl 3", SEL_KDATA | 3 }, { "user data", SEL_UDATA },
	{ "user data rpl 0", SEL_UDATA & ~3 }, { "kernel code", SEL_KCODE }, { "user code", SEL_UCODE }, { "compat code", SEL_UCODE32 },
	{ "task", SEL_TSS }, { "absent", 0x58 }, { "read-only", 0x60 }, { "execute-only", 0x68 }, { "ring 1", 0x71 }, { "no LDT", 4 },
	{ "beyond", 0x1238 }, { "absent user", 0x7b }, { "not accessed", 0x80 },
};

static void show(const char *name, const void *code, int ring)
{
	say("%s ring %d\n", name, ring);
	for (u32 i = 0; i < sizeof all / sizeof *all; i++) {
		struct try t;

		if (code == to_ss && all[i].selector == 3) /* see ss-null */
			continue;
		gdt[16] = descriptor(0, 0xfffff, ring ? 0xf2 : 0x92, FLAG_G | FLAG_D);
		fresh(&t);
		t.r.rcx = all[i].selector;
		(ring ? go3 : go0)(all[i].name, code, &t);
		if (t.vector == (u64)-1 || t.vector == VEC_DONE)
			say(" %lx\n", t.r.rax & 0xffff);
	}
	say("accessed: %lu\n", gdt[16] >> 40 & 1);
}

int main(void)
{
	struct try t;

	gdt[11] = gdt[2] & ~((u64)ACC_P << 40);
	gdt[12] = descriptor(0, 0xfffff, 0x91, FLAG_G | FLAG_D);
	gdt[13] = descriptor(0, 0xfffff, 0x99, FLAG_G | FLAG_D);
	gdt[14] = descriptor(0, 0xfffff, 0xb3, FLAG_G | FLAG_D);
	gdt[15] = gdt[4] & ~((u64)ACC_P << 40);
	for (int ring = 0; ring < 4; ring += 3) {
		show("ds", to_ds, ring);
		show("es", to_es, ring);
		show("pop fs", pop_fs, ring);
		show("pop gs", pop_gs, ring);
		show("lfs", lfs_, ring);
		show("lgs", lgs_, ring);
	}
	show("ss", to_ss, 0);
	show("ss", to_ss3, 3);
	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		(ring ? go3 : go0)("reads", from, &t);
		say(" cs %lx ss %lx ds %lx es %lx\n", t.r.rax, t.r.rbx, t.r.rdx & 0xffff, t.r.rsi & 0xffff);
		fresh(&t);
		(ring ? go3 : go0)("16-bit pushes", push16, &t);
	}
	return 0;
}
