/* WRFSBASE and WRGSBASE of a non-canonical address, and WRMSR of one to the bases and entry points: #GP(0) (SDM 2, WRFSBASE, WRMSR). */
#include "../lib64/rt.h"

CODE(fs, "wrfsbase %rbx");
CODE(gs, "wrgsbase %rbx");
CODE(fs32, "wrfsbase %ebx");
CODE(msr, "wrmsr");

int main(void)
{
	static const u64 values[] = { 1ul << 63, 1ul << 47, 0xffff7fffffffffff, 0xffff800000000000, 0x00007fffffffffff };
	static const u32 msrs[] = { MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_CSTAR };

	write_cr4(read_cr4() | CR4_FSGSBASE);
	for (u32 i = 0; i < sizeof values / sizeof *values; i++) {
		struct try t;

		say("%016lx\n", values[i]);
		for (int ring = 0; ring < 4; ring += 3) {
			int (*run)(const char *, const void *, struct try *) = ring ? go3 : go0;

			fresh(&t), t.r.rbx = values[i], run("wrfsbase", fs, &t);
			fresh(&t), t.r.rbx = values[i], run("wrgsbase", gs, &t);
			fresh(&t), t.r.rbx = values[i], run("wrfsbase 32", fs32, &t);
		}
		for (u32 j = 0; j < sizeof msrs / sizeof *msrs; j++) {
			fresh(&t);
			t.r.rcx = msrs[j];
			t.r.rax = (u32)values[i];
			t.r.rdx = values[i] >> 32;
			say("%x ", msrs[j]);
			go0("wrmsr", msr, &t);
		}
	}
	return 0;
}
