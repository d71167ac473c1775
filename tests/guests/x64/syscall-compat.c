/* SYSCALL from compatibility mode: an AMD CPU enters at CSTAR, with EIP in RCX and flags in R11, and SYSRET goes back (APM 3, SYSCALL). */
#include "../lib64/rt.h"

u64 saw[6];
extern char compat_entry[], long_entry[];
CODE32(call, "mov %esp, %ebp; mov $0xc0ffee, %ecx; syscall; mov %cs, %ebx; mov %ss, %esi; mov %ebp, %esp; pushf; pop %edi");
asm(".text\ncompat_entry: mov %rcx, saw; mov %r11, saw+8; mov %rsp, saw+16; mov %cs, %eax; mov %rax, saw+24; mov %ss, %eax; mov %rax, saw+32;"
    "mov $boot_stack+4096, %rsp; pushfq; popq saw+40; mov saw+16, %rsp; mov $0x1234, %eax; sysretl\nlong_entry: ud2");

int main(void)
{
	struct try t;
	u64 rsp;

	pic_init();
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)long_entry);
	wrmsr(MSR_CSTAR, (u64)compat_entry);
	wrmsr(MSR_SFMASK, F_IF | F_DF);
	go32("without SCE", call, 0);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	check("cstar reads back", rdmsr(MSR_CSTAR) == (u64)compat_entry);
	fresh(&t);
	t.r.rflags = F_IF | F_DF | 2;
	rsp = t.r.rsp - 4;
	go32("call", call, &t);
	say(" entry: rip +%lu r11 %lx rsp %s cs %lx ss %lx rflags %lx\n", saw[0] - low(call), saw[1] & ~(u64)F_ARITH,
	    saw[2] == rsp ? "the user's" : "CHANGED", saw[3], saw[4], saw[5] & ~(u64)F_ARITH);
	say(" back: eax %lx cs %lx ss %lx eflags %lx\n", t.r.rax, t.r.rbx & 0xffff, t.r.rsi & 0xffff, t.r.rdi & F_SYSTEM);
	return 0;
}
