/* Many system calls with the Linux way of entry: SWAPGS, the user's stack kept behind GS, a frame, IRETQ or SYSRET back (SDM 3, 5.8.8). */
#include "../lib64/rt.h"

enum { ROUNDS = 2000 };
extern char entry_hot[];
static char stack[4096] __attribute__((aligned(16)));
u64 area[4];
u64 calls;
asm(".text\nentry_hot: swapgs; mov %rsp, %gs:8; mov %gs:0, %rsp; pushq $0x23; pushq %gs:8; push %r11; pushq $0x2b; push %rcx; incq calls; lea (%rdi,%rsi), %rax;"
    "test $1, %edi; jz 1f; swapgs; iretq; 1: pop %rcx; pop %rax; pop %r11; lea (%rdi,%rsi), %rax; pop %rsp; swapgs; sysretq");
CODE(loop_code, "xor %edi, %edi; xor %ebx, %ebx; mov $7, %esi; 1: syscall; add %rax, %rbx; mov %gs:0, %r9; inc %edi; cmp $2000, %edi; jne 1b");

int main(void)
{
	struct try t;
	static u64 user_area[2] USER = { 0x5555 };

	area[0] = (u64)stack + sizeof stack;
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)entry_hot);
	wrmsr(MSR_SFMASK, 0x47700);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_GS_BASE, low(user_area));
	wrmsr(MSR_KERNEL_GS_BASE, (u64)area);
	fresh(&t);
	go3("loop", loop_code, &t);
	say("calls %lu sum %lu gs:0 %lx\n", calls, t.r.rbx, t.r.r9);
	check("gs base is the user's", rdmsr(MSR_GS_BASE) == low(user_area));
	check("kernel gs base is the kernel's", rdmsr(MSR_KERNEL_GS_BASE) == (u64)area);
	return 0;
}
