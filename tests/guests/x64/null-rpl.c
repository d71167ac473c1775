/* A null selector keeps the RPL it was loaded with, and FS and GS the bases that are set behind it, through whatever interrupts the kernel (SDM 2, MOV;
 * SDM 3, 3.4.4). Only an IRET to an outer ring takes the RPL away, that of the VMM too. A loop, so that it also goes on after it has got patches. */
#include "../lib64/rt.h"

static u64 cell[2] = { 0x1111, 0x2222 };
CODE(hold, "mov $3, %ecx; mov %ecx, %fs; mov $2, %ecx; mov %ecx, %gs; mov $1, %ecx; mov %ecx, %ds; mov $3, %ecx; mov %ecx, %es;"
     "mov $0xc0000100, %ecx; mov %rbx, %rax; mov %rbx, %rdx; shr $32, %rdx; wrmsr;"
     "mov $0xc0000101, %ecx; lea 8(%rbx), %rax; mov %rax, %rdx; shr $32, %rdx; wrmsr;"
     "mov $200, %r8d; xor %r9d, %r9d; xor %r10d, %r10d;"
     "1: cli; pushfq; pop %rax; sti; mov %cr2, %rax; xor %eax, %eax; push %rbx; cpuid; pop %rbx;"
     "add %fs:0, %r9; add %gs:0, %r9;"
     "mov %fs, %eax; add %rax, %r10; mov %gs, %eax; add %rax, %r10; mov %ds, %eax; add %rax, %r10; mov %es, %eax; add %rax, %r10;"
     "dec %r8d; jnz 1b;"
     "mov %fs, %r12d; mov %gs, %r13d; mov %ds, %esi; mov %es, %edi; xor %ecx, %ecx; mov %ecx, %fs; xor %eax, %eax; push %rbx; cpuid; pop %rbx; mov %fs, %r11d; mov %r13, %rdx");

int main(void)
{
	struct try t;
	u64 gs = rdmsr(MSR_GS_BASE), fs = rdmsr(MSR_FS_BASE);

	for (int on = 0; on < 2; on++) {
		write_cr4(on ? read_cr4() | CR4_FSGSBASE : read_cr4() & ~CR4_FSGSBASE);
		fresh(&t);
		t.r.rbx = (u64)cell;
		go0(on ? "with FSGSBASE" : "without", hold, &t);
		say(" sums %lx %lx, then %lx %lx %lx %lx, FS 0 %lx\n", t.r.r9, t.r.r10, t.r.r12, t.r.rdx, t.r.rsi, t.r.rdi, t.r.r11);
		wrmsr(MSR_FS_BASE, fs);
		wrmsr(MSR_GS_BASE, gs);
	}
	return 0;
}
