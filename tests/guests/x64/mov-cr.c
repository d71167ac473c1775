/* MOV CR: CR0, CR2, CR3, CR4 and CR8 read back as written, 64 bits wide; REX.R reaches CR8; ring 3 is refused; registers that are not there are
 * #UD (SDM 2, MOV CR). */
#include "../lib64/rt.h"

CODE(cr0, "mov %rbx, %cr0; mov %cr0, %rax");
CODE(cr2, "mov %rbx, %cr2; mov %cr2, %rax; mov %cr2, %r15");
CODE(cr3, "mov %cr3, %rax; mov %rax, %cr3; mov %cr3, %r9; sub %r9, %rax");
CODE(cr4, "mov %rbx, %cr4; mov %cr4, %rax");
CODE(bit32, ".byte 0x66; mov %cr2, %rax");
CODE(cr1, ".byte 0x0f, 0x20, 0xc8");
CODE(cr5, ".byte 0x0f, 0x22, 0xe8");
CODE(cr9, ".byte 0x44, 0x0f, 0x20, 0xc8");
CODE(memory_form, ".byte 0x0f, 0x20, 0x10"); /* the mod field is ignored */
CODE(lmsw_, "mov $0xa, %eax; lmsw %ax; mov %cr0, %rax; clts; mov %cr0, %rcx; smsw %rdx; smsw %esi; smsw %di");
CODE32(compat, "mov %cr0, %eax");

static void show(const char *name, const char *code, u64 value)
{
	struct try t;

	fresh(&t);
	t.r.rbx = value;
	go0(name, code, &t);
	say(" %016lx: %016lx\n", value, t.r.rax);
}

int main(void)
{
	static const u64 bits[] = { 0, CR0_MP, CR0_TS, CR0_EM, CR0_WP, CR0_AM, CR0_CD };
	static const u64 bits4[] = { 0, CR4_TSD, CR4_PSE, CR4_PGE, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_FSGSBASE };
	struct try t;

	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++)
		show("cr0", cr0, CR0_PG | CR0_NE | CR0_ET | CR0_PE | bits[i]);
	write_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE);
	show("cr2", cr2, 0);
	show("cr2", cr2, 0x123456789abcdef0);
	show("cr2", cr2, 0xffff812345678000);
	show("cr2 with 66", bit32, 0);
	show("cr2 by memory form", memory_form, 0);
	fresh(&t);
	go0("cr3", cr3, &t);
	say(" %lx\n", t.r.rax);
	for (u32 i = 0; i < sizeof bits4 / sizeof *bits4; i++)
		show("cr4", cr4, CR4_PAE | bits4[i]);
	write_cr4(CR4_PAE);
	go0("cr1", cr1, 0);
	go0("cr5", cr5, 0);
	go0("cr9", cr9, 0);
	fresh(&t);
	go0("lmsw, clts, smsw", lmsw_, &t);
	say(" %lx %lx %lx %lx %lx\n", t.r.rax, t.r.rcx, t.r.rdx, t.r.rsi & 0xffffffff, t.r.rdi);
	write_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE);
	go3("ring 3", cr0, 0);
	go3("ring 3", cr2, 0);
	go3("ring 3", cr3, 0);
	go3("ring 3", cr4, 0);
	go32("compat", compat, 0);
	return 0;
}
