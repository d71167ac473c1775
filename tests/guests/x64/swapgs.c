/* SWAPGS exchanges the GS base with KERNEL_GS_BASE, in ring 0 only; accesses through GS follow at once (SDM 2, SWAPGS). */
#include "../lib64/rt.h"

u64 one[2] = { 0x1111 }, two[2] = { 0x2222 };
CODE(swap, "mov %gs:0, %rax; swapgs; mov %gs:0, %rbx; swapgs; mov %gs:0, %rcx; swapgs; mov %gs:0, %rdx; swapgs");
CODE(alone, "swapgs");
CODE(prefixed, "rex.W swapgs; mov %gs:0, %rax; swapgs; swapgs");
CODE(locked, ".byte 0xf0; swapgs");
CODE32(in32, ".byte 0x0f, 0x01, 0xf8");

int main(void)
{
	struct try t;

	wrmsr(MSR_GS_BASE, (u64)one);
	wrmsr(MSR_KERNEL_GS_BASE, (u64)two);
	for (int i = 0; i < 3; i++) {
		fresh(&t);
		go0("swap", swap, &t);
		say(" %lx %lx %lx %lx\n", t.r.rax, t.r.rbx, t.r.rcx, t.r.rdx);
	}
	go0("alone", alone, 0);
	check("exchanged", rdmsr(MSR_GS_BASE) == (u64)two && rdmsr(MSR_KERNEL_GS_BASE) == (u64)one);
	fresh(&t);
	go0("prefixed", prefixed, &t);
	say(" %lx\n", t.r.rax);
	go0("locked", locked, 0);
	go3("ring 3", alone, 0);
	go32("compat", in32, 0);
	check("the same", rdmsr(MSR_GS_BASE) == (u64)one && rdmsr(MSR_KERNEL_GS_BASE) == (u64)two);
	/* A load of a selector changes the base, not the other one. */
	asm volatile("mov %0, %%gs" : : "r"(SEL_UDATA));
	say("after a load %lx, %s\n", rdmsr(MSR_GS_BASE), rdmsr(MSR_KERNEL_GS_BASE) == (u64)two ? "the other as it was" : "CHANGED");
	asm volatile("swapgs");
	check("swapped again", rdmsr(MSR_GS_BASE) == (u64)two && rdmsr(MSR_KERNEL_GS_BASE) == 0);
	return 0;
}
