/* IRETQ within ring 0 always pops SS and RSP: any flags, another stack, a null SS; frames that fault (SDM 2, IRET). */
#include "../lib64/rt.h"

/* RAX flags, RBX SS, RCX CS, RDX RIP or 0, RSI RSP or 0. */
CODE(iret64, "mov %rsp, %rbp; test %rdx, %rdx; jnz 3f; mov $1f, %rdx; 3: test %rsi, %rsi; jnz 2f; mov %rsp, %rsi; 2: push %rbx; push %rsi; push %rax; push %rcx; push %rdx; same_iret: iretq;"
	"1: mov %rsp, %rsi; mov %ss, %edi; mov %rbp, %rsp; pushfq; pop %rdx; pushq $2; popfq; mov %cs, %ecx; mov $0x10, %eax; mov %eax, %ss");
extern char same_iret[];

static void show(const char *name, u64 flags, u64 cs, u64 ss, u64 rip, u64 rsp)
{
	struct try t;

	fresh(&t);
	t.r.rax = flags;
	t.r.rcx = cs;
	t.r.rbx = ss;
	t.r.rdx = rip;
	t.r.rsi = rsp;
	t.code = iret64;
	try0(&t, iret64);
	if (t.vector != (u64)-1) {
		say("%s: %s error %04lx at %s\n", name, vector_name(t.vector), t.error,
		    t.rip == (u64)same_iret ? "the iret" : t.rip == rip ? "its target" : "?");
		return;
	}
	say("%s: flags %06lx cs %lx ss %lx", name, t.r.rdx & ~(u64)F_ARITH, t.r.rcx & 0xffff, t.r.rdi & 0xffff);
	if (rsp)
		say(" rsp %lx", t.r.rsi);
	say("\n");
}

int main(void)
{
	static const u64 flags[] = { 2, F_IF, F_IOPL, F_AC, F_DF, F_ID, F_RF, F_NT, F_IF | F_DF | F_ID, 0xffa4feff };

	pic_init();
	gdt[SEL_FREE / 8] = gdt[1];
	gdt[SEL_FREE / 8 + 1] = gdt[1] & ~((u64)ACC_P << 40);
	for (int round = 0; round < 2; round++)
		for (u32 i = 0; i < sizeof flags / sizeof *flags; i++) {
			say("%08lx ", flags[i]);
			show("own", flags[i], SEL_KCODE, SEL_KDATA, 0, 0);
		}
	show("other code", 2, SEL_FREE, SEL_KDATA, 0, 0);
	show("null ss", 2, SEL_KCODE, 0, 0, 0);
	show("ss of ring 3", 2, SEL_KCODE, SEL_UDATA, 0, 0);
	show("ss is code", 2, SEL_KCODE, SEL_KCODE, 0, 0);
	show("ss beyond", 2, SEL_KCODE, 0x400, 0, 0);
	show("cs null", 2, 0, SEL_KDATA, 0, 0);
	show("cs data", 2, SEL_KDATA, SEL_KDATA, 0, 0);
	show("cs beyond", 2, 0x400, SEL_KDATA, 0, 0);
	show("cs absent", 2, SEL_FREE + 8, SEL_KDATA, 0, 0);
	show("cs of ring 3, rpl 0", 2, SEL_UCODE & ~3, SEL_KDATA, 0, 0);
	show("another stack", 2, SEL_KCODE, SEL_KDATA, 0, 0x123456789abc);
	show("an odd stack", 2, SEL_KCODE, SEL_KDATA, 0, 0x7001);
	/* NT in the flags of the IRET itself. */
	struct try t;

	fresh(&t);
	t.r.rax = 2;
	t.r.rbx = SEL_KDATA;
	t.r.rcx = SEL_KCODE;
	t.r.rdx = t.r.rsi = 0;
	asm volatile("pushfq; orl $0x4000, (%%rsp); popfq" : : : "memory", "cc");
	try0(&t, iret64);
	asm volatile("pushq $2; popfq" : : : "memory", "cc");
	say("nt: %s error %04lx\n", vector_name(t.vector), t.error);
	return 0;
}
