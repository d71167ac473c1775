/* SYSCALL from 64-bit user code and SYSRET back to 64 and to 32 bits: RCX, R11, selectors, SFMASK, IF, RSP untouched; #UD without EFER.SCE
 * (SDM 2, SYSCALL and SYSRET). */
#include "../lib64/rt.h"

u64 saw[6];
extern char syscall_entry[];
CODE(call, "syscall; 1: mov %cs, %ebx; mov %ss, %esi; pushfq; pop %rdi; lea 1b(%rip), %r8");
CODE(call32, "mov $1, %edx; syscall\n.code32\nmov %cs, %ebx; mov %ss, %esi; pushf; pop %edi; int $0x30\n.code64\n");
CODE(only_exit, "lea 1f(%rip), %rcx; mov $2, %r11d; sysretq; 1: nop");
/* EDX says how to return: 1 to 32 bits, 2 with ring 0's flags for ring 3 in R11. */
asm(".text\nsyscall_entry: mov %rcx, saw; mov %r11, saw+8; mov %rsp, saw+16; mov %cs, %eax; mov %rax, saw+24; mov %ss, %eax; mov %rax, saw+32;"
    "mov $boot_stack+4096, %rsp; pushfq; popq saw+40; mov saw+16, %rsp; mov $0x1234, %eax; cmp $1, %edx; je 1f; cmp $2, %edx; jne 2f;"
    "mov $0x277ed7, %r11d; 2: sysretq; 1: sysretl");

static void show(const char *name, const char *code, u64 flags, u64 edx)
{
	struct try t;
	u64 rsp;

	memset(saw, 0, sizeof saw);
	fresh(&t);
	t.r.rflags = flags | 2;
	t.r.rdx = edx;
	rsp = t.r.rsp - 8;
	go3(name, code, &t);
	say(" entry: rip +%lu r11 %lx rsp %s cs %lx ss %lx rflags %lx\n", saw[0] - low(code), saw[1], saw[2] == rsp ? "the user's" : "CHANGED",
	    saw[3], saw[4], saw[5] & ~(u64)F_ARITH);
	say(" back: rax %lx cs %lx ss %lx rflags %lx rcx %s r11 %s\n", t.r.rax, t.r.rbx & 0xffff, t.r.rsi & 0xffff, t.r.rdi & ~(u64)F_ARITH,
	    t.r.rcx == saw[0] ? "rip" : "-", t.r.r11 == saw[1] ? "rflags" : "-");
}

int main(void)
{
	u64 efer = rdmsr(MSR_EFER);

	pic_init();
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_LSTAR, (u64)syscall_entry);
	wrmsr(MSR_SFMASK, 0);
	wrmsr(MSR_EFER, efer & ~EFER_SCE);
	go3("without SCE", call, 0);
	go0("sysret without SCE", only_exit, 0);
	wrmsr(MSR_EFER, efer | EFER_SCE);
	say("msrs %lx %s %lx\n", rdmsr(MSR_STAR), rdmsr(MSR_LSTAR) == (u64)syscall_entry ? "lstar" : "-", rdmsr(MSR_SFMASK));
	show("plain", call, 0, 0);
	show("if", call, F_IF, 0);
	show("flags, no mask", call, F_IF | F_AC | F_NT | F_ID, 0);
	show("iopl", call, F_IOPL, 0);
	wrmsr(MSR_SFMASK, 0x47700);
	say("mask %lx\n", rdmsr(MSR_SFMASK));
	show("if, masked", call, F_IF, 0);
	show("flags, masked", call, F_IF | F_DF | F_AC | F_NT | F_ID | F_IOPL, 0);
	show("sysret with all flags", call, 0, 2);
	show("to 32 bits", call32, F_IF, 1);
	wrmsr(MSR_SFMASK, ~0ul >> 32);
	show("all masked", call, F_IF | F_DF | F_AC | F_NT | F_ID | F_IOPL, 0);
	go3("sysret in ring 3", only_exit, 0);
	wrmsr(MSR_EFER, efer);
	go3("without SCE again", call, 0);
	return 0;
}
