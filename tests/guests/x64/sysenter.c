/* SYSENTER from 64-bit and compatibility-mode user code enters 64-bit ring 0 with 64 bits of RSP and RIP; SYSEXIT goes back to either by its operand size;
 * #GP without a selector (SDM 2, SYSENTER, SYSEXIT; Intel's only). */
#include "../lib64/rt.h"

u64 saw[5];
void sysenter_entry(void);
CODE(call, "lea 1f(%rip), %rdx; mov %rsp, %rcx; sysenter; ud2; 1: mov %cs, %ebx; mov %ss, %esi; pushfq; pop %rdi");
CODE32(call32, "mov $1f - KBASE, %edx; mov %esp, %ecx; mov $32, %eax; sysenter; ud2; 1: mov %cs, %ebx; mov %ss, %esi; pushf; pop %edi");
CODE(exit64, "lea 1f(%rip), %rdx; mov %rsp, %rcx; sysexitq; 1: nop");
asm(".text\nsysenter_entry: mov %rsp, saw; mov %cs, %ebx; mov %rbx, saw+8; mov %ss, %ebx; mov %rbx, saw+16; pushfq; popq saw+24; lea sysenter_entry(%rip), %rbx; mov %rbx, saw+32;"
    "cmp $32, %eax; mov $0x1234, %eax; je 1f; sysexitq; 1: sysexitl");

static void show(const char *name, int (*run)(const char *, const void *, struct try *), const void *code, u64 flags)
{
	struct try t;

	memset(saw, 0, sizeof saw);
	fresh(&t);
	t.r.rflags = flags | 2;
	run(name, code, &t);
	say(" entry: rsp %s cs %lx ss %lx rflags %lx rip %s\n", saw[0] == ist_stack(7) ? "right" : "WRONG", saw[1], saw[2], saw[3] & F_SYSTEM,
	    saw[4] == (u64)sysenter_entry ? "right" : "WRONG");
	say(" back: rax %lx cs %lx ss %lx rflags %lx\n", t.r.rax, t.r.rbx & 0xffff, t.r.rsi & 0xffff, t.r.rdi & F_SYSTEM);
}

int main(void)
{
	pic_init();
	/* SYSEXIT wants 32-bit user code at +16, its stack at +24, 64-bit code at +32 and stack at +40. */
	gdt[12] = gdt[1];
	gdt[13] = gdt[2];
	gdt[14] = gdt[SEL_UCODE32 / 8];
	gdt[15] = gdt[SEL_UDATA / 8];
	gdt[16] = gdt[SEL_UCODE / 8];
	gdt[17] = gdt[SEL_UDATA / 8];
	wrmsr(0x174, 0);
	go3("without a selector", call, 0);
	go32("without a selector, compat", call32, 0);
	go0("sysexit without a selector", exit64, 0);
	wrmsr(0x174, 12 * 8);
	wrmsr(0x175, ist_stack(7));
	wrmsr(0x176, (u64)sysenter_entry);
	say("msrs %lx %s %s\n", rdmsr(0x174), rdmsr(0x175) == ist_stack(7) ? "esp" : "-", rdmsr(0x176) == (u64)sysenter_entry ? "eip" : "-");
	show("64", go3, call, 0);
	show("64 if", go3, call, F_IF);
	show("compat", go32, call32, 0);
	show("compat if", go32, call32, F_IF);
	go3("sysexit in ring 3", exit64, 0);
	return 0;
}
