/* SYSCALL from compatibility mode is #UD on an Intel CPU, whatever CSTAR says (SDM 2, SYSCALL). */
#include "../lib64/rt.h"

CODE32(call, "syscall");
extern char compat_entry[];
asm(".text\ncompat_entry: ud2");

int main(void)
{
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)compat_entry);
	wrmsr(MSR_CSTAR, (u64)compat_entry);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	go32("syscall", call, 0);
	return 0;
}
