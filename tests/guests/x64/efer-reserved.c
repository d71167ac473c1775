/* EFER: a reserved bit is #GP(0), so is LME changed while paging is on; CR0.PG cannot be cleared in 64-bit mode, nor CR4.PAE; unknown MSRs
 * (SDM 3, 2.2.1, 10.8.5.4; SDM 2, WRMSR, MOV CR). */
#include "../lib64/rt.h"

CODE(write, "wrmsr");
CODE(read, "rdmsr");
CODE(cr0, "mov %rbx, %cr0");
CODE(cr4, "mov %rbx, %cr4");
CODE(cr3, "mov %rbx, %cr3");

static void msr(const char *name, u32 n, u64 value)
{
	struct try t;

	fresh(&t);
	t.r.rcx = n;
	t.r.rax = (u32)value;
	t.r.rdx = value >> 32;
	go0(name, write, &t);
}

static void reg(const char *name, const char *code, u64 value)
{
	struct try t;

	fresh(&t);
	t.r.rbx = value;
	go0(name, code, &t);
}

int main(void)
{
	struct try t;
	u64 efer = rdmsr(MSR_EFER), c0 = read_cr0(), c4 = read_cr4();

	msr("efer as it is", MSR_EFER, efer);
	msr("efer bit 1", MSR_EFER, efer | 2);
	msr("efer bit 9", MSR_EFER, efer | 0x200);
	msr("efer bit 32", MSR_EFER, efer | 1ul << 32);
	msr("efer bit 63", MSR_EFER, efer | 1ul << 63);
	msr("efer without LME", MSR_EFER, efer & ~EFER_LME);
	msr("unknown 0x12345", 0x12345, 0);
	fresh(&t);
	t.r.rcx = 0x12345;
	go0("unknown rdmsr", read, &t);
	reg("cr0 without PG", cr0, c0 & ~CR0_PG);
	reg("cr0 without PE", cr0, c0 & ~(u64)CR0_PE);
	reg("cr0 bit 32", cr0, c0 | 1ul << 32);
	reg("cr0 NW without CD", cr0, c0 | CR0_NW);
	reg("cr4 without PAE", cr4, c4 & ~(u64)CR4_PAE);
	reg("cr4 bit 32", cr4, c4 | 1ul << 32);
	reg("cr4 bit 30", cr4, c4 | 1ul << 30);
	reg("cr3 bit 62", cr3, read_cr3() | 1ul << 62);
	say("cr0 %s cr4 %s\n", read_cr0() == c0 ? "kept" : "CHANGED", read_cr4() == c4 ? "kept" : "CHANGED");
	return 0;
}
