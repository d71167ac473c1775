/* SYSCALL with SFMASK = 0 leaves DF and the arithmetic flags as they were (SDM 2, SYSCALL). */
#include "../lib64/rt.h"

u64 saw;
extern char syscall_entry[];
CODE(call, "stc; syscall");
asm(".text\nsyscall_entry: mov %rsp, %rbx; mov $boot_stack+4096, %rsp; pushfq; popq saw; mov %rbx, %rsp; sysretq");

int main(void)
{
	static const u32 flags[] = { F_DF, F_ZF | F_SF, F_ARITH | F_DF, F_ARITH };

	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)syscall_entry);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	for (int i = 0; i < 4; i++) {
		struct try t;

		wrmsr(MSR_SFMASK, i == 3 ? F_CF | F_ZF : 0);
		fresh(&t);
		t.r.rflags = flags[i] | 2;
		go3("call", call, &t);
		say(" r11 %lx inside %lx back %lx\n", t.r.r11, saw, t.r.rflags);
	}
	return 0;
}
