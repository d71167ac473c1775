/* FS and GS: bases from MSRs of 64 bits, from descriptors of 32; a null selector; a base that survives a visit to ring 3 and an interrupt; DS, ES and
 * SS have none in 64-bit mode (SDM 3, 3.4.4). */
#include "../lib64/rt.h"

u64 words[4] USER = { 0x100, 0x101, 0x102, 0x103 };
CODE(both, "mov %fs:0, %rax; mov %gs:0, %rbx; mov %fs:(%rcx), %rdx");
CODE(load_fs, "mov $0x5b, %eax; mov %eax, %fs; mov %fs:0, %rax; mov %fs:(%rcx), %rdx");
CODE(data, "mov $0x5b, %eax; mov %eax, %ds; mov %eax, %es; lea words(%rip), %rbx; mov %ds:(%rbx), %rax; mov %es:8(%rbx), %rdx; mov $0x23, %ebx; mov %ebx, %ds; mov %ebx, %es");
CODE32(compat, "mov $0x5b, %eax; mov %eax, %fs; mov %fs:0, %eax; mov %fs:8, %edx; push $0x5b; pop %ds; mov %ds:16, %ebx; push $0x23; pop %ds");
CODE(pops, "push $0x5b; pop %gs; mov %gs:24, %rax; push %gs; pop %rdx");

static void show(const char *name, int (*run)(const char *, const void *, struct try *), const void *code)
{
	struct try t;

	fresh(&t);
	t.r.rcx = 8;
	run(name, code, &t);
	say(" %lx %lx %lx\n", t.r.rax, t.r.rbx, t.r.rdx);
}

int main(void)
{
	u64 base = low(words);

	gdt[SEL_FREE / 8] = descriptor((u32)base, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	wrmsr(MSR_FS_BASE, base);
	wrmsr(MSR_GS_BASE, base + 16);
	show("msrs 0", go0, both);
	show("msrs 3", go3, both);
	show("msrs 3 again", go3, both);
	show("load fs 0", go0, load_fs);
	show("load fs 3", go3, load_fs);
	check("fs base is the descriptor's", rdmsr(MSR_FS_BASE) == base);
	show("ds, es 3", go3, data);
	show("compat", go32, compat);
	show("pop gs 0", go0, pops);
	show("pop gs 3", go3, pops);
	wrmsr(MSR_FS_BASE, (u64)words + 8);
	wrmsr(MSR_GS_BASE, (u64)words + 16);
	show("high, 0", go0, both);
	/* The access wraps at 64 bits. */
	wrmsr(MSR_FS_BASE, -8ul);
	asm volatile("mov %%fs:(%1), %0" : "=r"(base) : "r"((u64)words + 16));
	say("wrapped %lx\n", base);
	return 0;
}
