/* CPUID announces what the 64-bit guests here rely on and clears the upper halves; RDTSC counts, clears them too, and CR4.TSD forbids it to ring 3 only
 * (SDM 2, CPUID, RDTSC). */
#include "../lib64/rt.h"

CODE(id, "mov $-1, %rax; mov %ecx, %eax; mov $-1, %rbx; mov $-1, %rdx; xor %ecx, %ecx; cpuid; mov %rax, %rsi; shr $32, %rsi; mov %rbx, %rdi; shr $32, %rdi; mov %rdx, %r8; shr $32, %r8; mov %rcx, %r9; shr $32, %r9");
CODE(tsc, "mov $-1, %rax; mov $-1, %rdx; rdtsc; shr $32, %rax; shr $32, %rdx");

int main(void)
{
	static const struct { const char *name; u32 leaf; int reg, bit; } bits[] = {
		{ "fpu", 1, 3, 0 }, { "tsc", 1, 3, 4 }, { "msr", 1, 3, 5 }, { "pae", 1, 3, 6 }, { "cx8", 1, 3, 8 }, { "pge", 1, 3, 13 }, { "cmov", 1, 3, 15 },
		{ "fxsr", 1, 3, 24 }, { "sse2", 1, 3, 26 }, { "syscall", 0x80000001, 3, 11 }, { "nx", 0x80000001, 3, 20 }, { "gb pages", 0x80000001, 3, 26 },
		{ "long mode", 0x80000001, 3, 29 }, { "fsgsbase", 7, 1, 0 },
	};
	struct try t;

	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
		fresh(&t);
		t.r.rcx = bits[i].leaf;
		try0(&t, id);
		check(bits[i].name, (bits[i].reg == 3 ? t.r.rdx : t.r.rbx) >> bits[i].bit & 1);
		if (t.r.rsi | t.r.rdi | t.r.r8 | t.r.r9)
			say("upper halves %lx %lx %lx %lx\n", t.r.rsi, t.r.rdi, t.r.r8, t.r.r9);
	}
	u64 a = rdtsc(), b = 0;

	for (int i = 0; i < 1000; i++, a = b) {
		b = rdtsc();
		if (b < a)
			check("counts up", 0);
	}
	for (int tsd = 0; tsd < 3; tsd++) {
		write_cr4(tsd == 1 ? read_cr4() | CR4_TSD : read_cr4() & ~(u64)CR4_TSD);
		for (int ring = 0; ring < 4; ring += 3) {
			fresh(&t);
			(ring ? go3 : go0)(ring ? "rdtsc ring 3" : "rdtsc ring 0", tsc, &t);
			if (t.vector != 13)
				say(" %lx %lx\n", t.r.rax, t.r.rdx);
		}
	}
	return 0;
}
