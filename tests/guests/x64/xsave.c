/* XCR0 and what it enables: CR4.OSXSAVE, XGETBV, XSETBV and its faults, leaf D, XSAVE and XRSTOR with theirs, VEX; a CPU without PKU has no RDPKRU and
 * WRPKRU, and nothing that XRSTOR does opens the pages that the kernel's code is in (SDM 1, chapter 13; SDM 2, XSETBV, XRSTOR, WRPKRU). */
#include "../lib64/rt.h"

enum { CR4_OSXSAVE = 1 << 18 };

u8 area[4096] USER __attribute__((aligned(64)));
CODE(id, "mov %ecx, %eax; xor %ecx, %ecx; cpuid");
CODE(xgetbv, "xor %ecx, %ecx; mov $-1, %rax; mov $-1, %rdx; xgetbv");
CODE(xgetbv5, "mov $5, %ecx; xgetbv");
CODE(xsetbv, "xsetbv");
CODE(xsave, "mov $-1, %eax; mov $-1, %edx; xsave64 area(%rip)");
CODE(xsave32, "mov $-1, %eax; mov $-1, %edx; xsave area(%rip)");
CODE(xrstor, "mov $-1, %eax; mov $-1, %edx; xrstor64 area(%rip)");
CODE(unaligned, "mov $-1, %eax; mov $-1, %edx; xsave64 area+16(%rip)");
CODE(xsaves, "xor %eax, %eax; xor %edx, %edx; .byte 0x48, 0x0f, 0xc7, 0x2d; .long area - . - 4");
CODE(xrstors, "xor %eax, %eax; xor %edx, %edx; .byte 0x48, 0x0f, 0xc7, 0x1d; .long area - . - 4");
CODE(vex, "vpxor %xmm0, %xmm0, %xmm0");
CODE(sse, "pxor %xmm0, %xmm0");
CODE(rdpkru, "xor %ecx, %ecx; rdpkru");
CODE(wrpkru, "xor %ecx, %ecx; xor %edx, %edx; xor %eax, %eax; wrpkru");

static u64 at(u32 offset) { return *(u64 *)(area + offset); }
static void put(u32 offset, u64 value) { *(u64 *)(area + offset) = value; }

static void enabled(void)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		t.r.rcx = 1;
		(ring ? try3 : try0)(&t, id);
		say("ring %d: OSXSAVE %d\n", ring, (int)(t.r.rcx >> 27 & 1));
		fresh(&t);
		(ring ? go3 : go0)("xgetbv", xgetbv, &t);
		if (t.vector != 6)
			say(" %lx %lx\n", t.r.rax, t.r.rdx);
	}
	fresh(&t);
	t.r.rcx = 0xd;
	try0(&t, id);
	say("leaf D: %x %x %x %x\n", (u32)t.r.rax, (u32)t.r.rbx, (u32)t.r.rcx, (u32)t.r.rdx);
	BOTH(vex);
	BOTH(sse);
	BOTH(xsave);
	BOTH(xsave32);
}

static void set(u32 index, u64 value)
{
	struct try t;

	fresh(&t);
	t.r.rcx = index;
	t.r.rax = value & 0xffffffff;
	t.r.rdx = value >> 32;
	say("xcr %u := %lx\n", index, value);
	go0(" xsetbv", xsetbv, &t);
}

static void restores(const char *what)
{
	say("%s\n", what);
	BOTH(xrstor);
	memset(area + 512, 0, 64);
}

/* The kernel reads its own code, which shows what is there whatever has been done about keys. */
static void own_code(void)
{
	say("code:");
	for (const char *p = wrpkru; p < wrpkru_end; p++)
		say(" %02x", (u8)*p);
	for (const char *p = rdpkru; p < rdpkru_end; p++)
		say(" %02x", (u8)*p);
	say("\n");
}

int main(void)
{
	struct try t;

	write_cr0(read_cr0() | CR0_MP);
	write_cr4(read_cr4() | CR4_OSFXSR);
	say("off\n");
	enabled();
	go0("xsetbv ring 0", xsetbv, 0); /* ring 3: #UD too, but TCG raises #GP */
	BOTH(xrstor);
	BOTH(xsaves);
	write_cr4(read_cr4() | CR4_OSXSAVE);
	say("on\n");
	enabled();
	BOTH(xgetbv5);
	for (u64 v = 0; v < 8; v++)
		set(0, v);
	static const u64 never[] = { 0xf, 0x1f, 0x27, 0x207, 0x107, 7 | 1ul << 32, 7 | 1ul << 63 };
	for (u32 i = 0; i < sizeof never / sizeof *never; i++)
		set(0, never[i]);
	set(1, 1);
	set(0xffffffff, 7);
	fresh(&t);
	t.r.rcx = 0;
	t.r.rax = 3;
	t.r.rdx = 0;
	go3("xsetbv ring 3", xsetbv, &t);
	enabled();
	BOTH(unaligned);
	BOTH(xsaves);
	BOTH(xrstors);

	/* An image tells what it has. */
	asm volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0; vinsertf128 $1, %%xmm0, %%ymm0, %%ymm1; vmovdqa %%ymm1, %%ymm15" : : : "memory");
	memset(area, 0, sizeof area);
	go0("xsave", xsave, 0);
	say("state %lx %lx, xmm1 %lx, upper halves %lx %lx %lx\n", at(512) & 4, at(520), at(160 + 16), at(576), at(576 + 16), at(576 + 240));
	memset(area + 576, 0x5a, 16);
	go3("xrstor", xrstor, 0);
	u64 upper[4];
	asm volatile("vmovdqu %%ymm0, %0" : "=m"(upper));
	say("ymm0 %lx %lx\n", upper[1], upper[2]);
	memset(area + 512, 0, 64);
	*(u32 *)(area + 24) = 0x5f80;
	go0("xrstor of initial state", xrstor, 0);
	u32 mxcsr;
	asm volatile("vmovdqu %%ymm15, %0; stmxcsr %1" : "=m"(upper), "=m"(mxcsr));
	say("ymm15 %lx %lx, mxcsr %x\n", upper[0], upper[2], mxcsr);

	/* … and XRSTOR refuses what it cannot. */
	put(512, 1 << 9);
	restores("PKRU in the image");
	put(512, 1 << 5);
	restores("AVX-512 in the image");
	put(520, 1ul << 63);
	restores("compacted");
	put(528, 1);
	restores("reserved");
	own_code();
	BOTH(rdpkru);
	BOTH(wrpkru);
	own_code();

	set(0, 3);
	enabled();
	put(512, 4);
	restores("AVX in the image without AVX in XCR0");
	put(512, 3);
	restores("no AVX");
	set(0, 7);
	write_cr0(read_cr0() | CR0_TS);
	BOTH(vex); /* XSAVE and XRSTOR raise #NM too, but not in TCG; nor does it look at MXCSR's reserved bits */
	BOTH(xgetbv);
	asm volatile("clts");
	write_cr4(read_cr4() & ~(u64)CR4_OSXSAVE);
	say("off again\n");
	enabled();
	write_cr4(read_cr4() | CR4_OSXSAVE);
	BOTH(xgetbv);
	return 0;
}
