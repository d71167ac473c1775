/* x87 and SSE state, XMM8 to XMM15 too, survives interrupts, ring changes, page faults and emulated instructions; FXSAVE64 has it all; #NM with TS
 * (SDM 2, FXSAVE). */
#include "../lib64/rt.h"

static volatile u32 ticks;
static void tick(struct frame *f)
{
	(void)f;
	ticks++;
	pic_eoi(0);
}

static u8 before[512] __attribute__((aligned(16))), after[512] __attribute__((aligned(16)));
u32 words[8] __attribute__((aligned(16))) = { 0x3f800000, 0x40000000, 0x40400000, 0x40800000, 5, 6, 7, 8 };
u16 cw = 0x0f7f; /* another rounding */
u32 mxcsr = 0x5f80;
CODE(load, "fninit; fldcw cw; ldmxcsr mxcsr; fldl words; flds words+4; fldpi; movups words, %xmm0; movups words+16, %xmm7; movaps %xmm0, %xmm8; addps %xmm8, %xmm8;"
	"movaps %xmm7, %xmm15; paddq %xmm15, %xmm15; movaps %xmm0, %xmm12; pxor %xmm1, %xmm1; movq %rax, %xmm9");
CODE(ring3_work, "mov $200000, %ecx; 1: loop 1b; mov %cs, %eax");
CODE(user_sse, "movaps %xmm8, %xmm2; movq %xmm9, %rax; movq %rax, %xmm3");
CODE(touch, "movaps %xmm0, %xmm0");
CODE(x87, "fnop");

static void save(u8 *to)
{
	asm volatile("fxsave64 %0" : "=m"(*(u8(*)[512])to));
	/* Last instruction and operand pointers differ by CPU generation; reserved bytes are undefined. */
	memset(to + 6, 0, 18);
	memset(to + 28, 0, 4);
	memset(to + 416, 0, 96);
	for (int i = 0; i < 8; i++)
		memset(to + 32 + i * 16 + 10, 0, 6);
}

int main(void)
{
	struct try t;

	write_cr0(read_cr0() | CR0_MP);
	write_cr4(read_cr4() | CR4_OSFXSR);
	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	go0("load", load, 0);
	save(before);
	pit_start(2000);
	for (int i = 0; i < 20; i++) {
		fresh(&t);
		t.r.rflags = F_IF | 2;
		go3("ring 3", ring3_work, &t);
		asm volatile("sti; hlt; cli; pushfq; popfq" : : : "memory");
	}
	pit_stop();
	check("ticks", ticks >= 20);
	save(after);
	check("everything kept", !memcmp(before, after, 512));
	for (int r = 0; r < 3; r++)
		for (int i = 0; i < 10; i++)
			say("%02x%c", after[32 + r * 16 + i], i == 9 ? '\n' : ' ');
	for (int r = 0; r < 16; r++) {
		say("xmm%d", r);
		for (int i = 0; i < 16; i++)
			say(" %02x", r == 2 || r == 3 || (r > 3 && r < 7) || r == 10 || r == 11 || r == 13 || r == 14 ? 0 : after[160 + r * 16 + i]);
		say("\n");
	}
	fresh(&t);
	go3("user sse", user_sse, &t);
	say(" rax %lx\n", t.r.rax);
	write_cr0(read_cr0() | CR0_TS);
	BOTH(touch);
	BOTH(x87);
	asm volatile("clts");
	BOTH(touch);
	write_cr4(read_cr4() & ~(u64)CR4_OSFXSR);
	BOTH(touch);
	BOTH(x87);
	write_cr0((read_cr0() & ~(u64)CR0_MP) | CR0_EM);
	BOTH(x87);
	return 0;
}
