/* YMM registers survive interrupts, ring changes, emulated instructions and system calls, in two contexts that XSAVE and XRSTOR exchange; legacy SSE keeps
 * the upper halves, VEX clears them (SDM 1 §13.7 to §13.8, §14.1; SDM 2 §2.3). */
#include "../lib64/rt.h"

enum { CR4_OSXSAVE = 1 << 18, REGISTERS = 16 };

static volatile u32 ticks;
static void tick(struct frame *f)
{
	(void)f;
	ticks++;
	pic_eoi(0);
}

static u8 areas[2][4096] __attribute__((aligned(64)));
static u32 patterns[2][REGISTERS][8], is[REGISTERS][8];

#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

static void load(u32 (*from)[8])
{
#define X(n) asm volatile("vmovdqu %0, %%ymm" #n : : "m"(*(u32(*)[8])from[n]));
	EACH(X)
#undef X
}

static void store(u32 (*to)[8])
{
#define X(n) asm volatile("vmovdqu %%ymm" #n ", %0" : "=m"(*(u32(*)[8])to[n]));
	EACH(X)
#undef X
}

static void xsave(void *to) { asm volatile("xsave64 %0" : "=m"(*(u8(*)[4096])to) : "a"(-1), "d"(-1)); }
static void xrstor(void *from) { asm volatile("xrstor64 %0" : : "m"(*(u8(*)[4096])from), "a"(-1), "d"(-1)); }

/* Ring 3 computes for some ticks and puts everything back as it was. */
CODE(work, "mov $100000, %ecx; 1: vpaddd %ymm1, %ymm0, %ymm0; vpxor %ymm3, %ymm2, %ymm2; vpsubd %ymm1, %ymm0, %ymm0; vpxor %ymm3, %ymm2, %ymm2; loop 1b");
u8 pages[8192] USER __attribute__((aligned(4096)));
CODE(crossing, "lea pages+4080(%rip), %rbx; vmovdqu %ymm5, (%rbx); vpxor %ymm6, %ymm6, %ymm6; vmovdqu (%rbx), %ymm6; vpxor %ymm5, %ymm6, %ymm6; vextracti128 $1, %ymm6, %xmm13; vpor %xmm13, %xmm6, %xmm6; vmovq %xmm6, %rax");
CODE(legacy, "movdqa %xmm7, %xmm8");
CODE(cleared, "vmovdqa %xmm7, %xmm8");
CODE(fma, "vcvtph2ps %xmm9, %ymm10; vfmadd231ps %ymm10, %ymm10, %ymm11; vpbroadcastd %xmm9, %ymm12");

static void show(const char *what, int n)
{
	store(is);
	say("%s ymm%d", what, n);
	for (int i = 0; i < 8; i++)
		say(" %08x", is[n][i]);
	say("\n");
}

int main(void)
{
	struct try t;
	int kept = 0;

	write_cr0(read_cr0() | CR0_MP);
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);
	asm volatile("xsetbv" : : "a"(7), "c"(0), "d"(0));
	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	for (u32 c = 0; c < 2; c++) {
		u32 mxcsr = c ? 0x5f80 : 0x1f80;

		for (u32 i = 0; i < REGISTERS * 8; i++)
			patterns[c][i / 8][i % 8] = (c + 1) * 0x01010101u ^ i << 8;
		load(patterns[c]);
		asm volatile("ldmxcsr %0" : : "m"(mxcsr));
		xsave(areas[c]);
	}
	pit_start(2000);
	for (int i = 0; i < 20; i++) {
		int c = i & 1;
		u32 mxcsr;

		xrstor(areas[c]);
		fresh(&t);
		t.r.rflags = F_IF | 2;
		go3(c ? "ring 3, second" : "ring 3, first", work, &t);
		asm volatile("sti; hlt; cli; pushfq; popfq; mov %%cr2, %%rax" : : : "rax", "memory");
		asm volatile("stmxcsr %0" : "=m"(mxcsr));
		store(is);
		kept += !memcmp(is, patterns[c], sizeof is) && mxcsr == (c ? 0x5f80 : 0x1f80);
		xsave(areas[c]);
		/* What the other must not see. */
		asm volatile("vzeroall");
	}
	pit_stop();
	check("ticks", ticks >= 20);
	say("kept %d of 20\n", kept);

	load(patterns[0]);
	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		(ring ? go3 : go0)("across pages", crossing, &t);
		say(" differing bits %lx\n", t.r.rax);
		load(patterns[0]);
		(ring ? go3 : go0)("legacy", legacy, 0);
		show("legacy", 8);
		(ring ? go3 : go0)("cleared", cleared, 0);
		show("cleared", 8);
		(ring ? go3 : go0)("fma", fma, 0);
		show("f16c", 10);
		show("fma", 11);
		show("avx2", 12);
	}
	return 0;
}
