/* RDFSBASE, WRFSBASE and their GS twins: with CR4.FSGSBASE in every ring and both operand sizes, without it #UD; never in compatibility mode
 * (SDM 2, RDFSBASE). */
#include "../lib64/rt.h"

u64 words[2] USER = { 0x7777, 0x8888 };
CODE(read, "rdfsbase %rax; rdgsbase %rbx; rdfsbase %ecx; rdgsbase %edx");
CODE(write, "lea words(%rip), %rcx; wrfsbase %rcx; mov %fs:0, %rax; mov %fs:8, %rbx; wrgsbase %rcx; mov %gs:0, %rsi; rdgsbase %rdx; sub %rcx, %rdx");
CODE(write32, "mov $-1, %rcx; wrfsbase %ecx; rdfsbase %rax; wrgsbase %ecx; rdgsbase %rbx");
CODE(noprefix, ".byte 0x0f, 0xae, 0xc0"); /* FXSAVE with a register: #UD */
CODE32(in32, ".byte 0xf3, 0x0f, 0xae, 0xc0");

static void all(void)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		int (*run)(const char *, const void *, struct try *) = ring ? go3 : go0;

		wrmsr(MSR_FS_BASE, 0xffff900012345678);
		wrmsr(MSR_GS_BASE, 0x00007abcdef01234);
		fresh(&t);
		run("read", read, &t);
		say(" %lx %lx %lx %lx\n", t.r.rax, t.r.rbx, t.r.rcx, t.r.rdx);
		fresh(&t);
		run("write", write, &t);
		say(" %lx %lx %lx %lx\n", t.r.rax, t.r.rbx, t.r.rsi, t.r.rdx);
		fresh(&t);
		run("write 32", write32, &t);
		say(" %lx %lx\n", t.r.rax, t.r.rbx);
		say(" msrs %lx %lx\n", rdmsr(MSR_FS_BASE), rdmsr(MSR_GS_BASE));
		run("no prefix", noprefix, 0);
	}
	go32("compat", in32, 0);
}

int main(void)
{
	say("off\n");
	all();
	write_cr4(read_cr4() | CR4_FSGSBASE);
	say("on\n");
	all();
	write_cr4(read_cr4() & ~(u64)CR4_FSGSBASE);
	say("off again\n");
	all();
	return 0;
}
