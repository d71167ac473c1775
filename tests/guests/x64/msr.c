/* RDMSR and WRMSR of the registers of long mode: every bit kept, upper halves of RAX and RDX cleared; EFER's bits; ring 3 refused (SDM 2, RDMSR). */
#include "../lib64/rt.h"

CODE(read, "rdmsr");
CODE(write, "wrmsr");
CODE(read_rex, "rex.W rdmsr");

int main(void)
{
	static const u32 msrs[] = { MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, 0x174, 0x175, 0x176 };
	struct try t;

	for (u32 i = 0; i < sizeof msrs / sizeof *msrs; i++) {
		/* An AMD CPU has 32 bits of SYSENTER_ESP and EIP, and SYSENTER_CS has 16 on some. */
		u64 value = msrs[i] == 0x174 ? 0x1234 : msrs[i] < 0x180 ? 0x12345678 : 0x0000765412345678;

		wrmsr(msrs[i], value);
		fresh(&t);
		t.r.rcx = msrs[i] | 0xabcd00000000;
		say("%x ", msrs[i]);
		go0("rdmsr", i & 1 ? read : read_rex, &t);
		say(" %016lx %016lx\n", t.r.rax, t.r.rdx);
		wrmsr(msrs[i], 0);
		say(" 0: %lx\n", rdmsr(msrs[i]));
	}
	wrmsr(MSR_SFMASK, 0x257fd5);
	say("sfmask %lx\n", rdmsr(MSR_SFMASK));
	say("efer %lx\n", rdmsr(MSR_EFER));
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	say("efer with SCE %lx\n", rdmsr(MSR_EFER));
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)(EFER_SCE | EFER_NXE));
	say("efer without SCE and NXE %lx\n", rdmsr(MSR_EFER));
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	say("efer %lx\n", rdmsr(MSR_EFER));
	fresh(&t);
	t.r.rcx = MSR_EFER;
	go3("rdmsr ring 3", read, &t);
	fresh(&t);
	t.r.rcx = MSR_FS_BASE;
	go3("wrmsr ring 3", write, &t);
	return 0;
}
