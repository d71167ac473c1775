/* x87 and SSE registers and control words survive interrupts, ring changes and patched instructions. */
#include "lib/rt.h"

static volatile u32 ticks;
static void tick(struct frame *f)
{
	(void)f;
	ticks++;
	pic_eoi(0);
}

static u8 before[512] __attribute__((aligned(16))), after[512] __attribute__((aligned(16)));
u32 fpu_words[8] = { 0x3f800000, 0x40000000, 0x40400000, 0x40800000, 5, 6, 7, 8 };
u16 fpu_cw = 0x0f7f; /* another rounding */
u32 fpu_mxcsr = 0x5f80;
CODE(load, "fninit; fldcw fpu_cw; ldmxcsr fpu_mxcsr; fldl fpu_words; flds fpu_words+4; fldpi; movups fpu_words, %xmm0;"
	"movups fpu_words+16, %xmm7; movaps %xmm0, %xmm3; addps %xmm0, %xmm3; pxor %xmm1, %xmm1");
CODE(ring3_work, "mov $200000, %ecx; 1: loop 1b; mov %cs, %eax");

static void save(u8 *to)
{
	asm volatile("fxsave %0" : "=m"(*(u8(*)[512])to));
	/* Last instruction and operand pointers differ by CPU generation; reserved bytes are undefined. */
	memset(to + 6, 0, 18);
	memset(to + 28, 0, 4);
	memset(to + 288, 0, 224);
	for (int i = 0; i < 8; i++)
		memset(to + 32 + i * 16 + 10, 0, 6);
}

int main(void)
{
	struct try t;

	write_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_MP);
	write_cr4(CR4_OSFXSR);
	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	go0("load", load, 0);
	save(before);
	pit_start(2000);
	for (int i = 0; i < 20; i++) {
		fresh(&t);
		t.r.eflags = F_IF | 2;
		go3("ring 3", ring3_work, &t);
		asm volatile("sti; hlt; cli; pushf; popf" : : : "memory");
	}
	pit_stop();
	check("ticks", ticks >= 20);
	save(after);
	check("everything kept", !memcmp(before, after, 512));
	for (int i = 0; i < 16; i++)
		say("%02x%c", after[i < 6 ? i : i + 18 < 28 ? i + 18 : 24], i == 15 ? '\n' : ' ');
	for (int r = 0; r < 3; r++)
		for (int i = 0; i < 10; i++)
			say("%02x%c", after[32 + r * 16 + i], i == 9 ? '\n' : ' ');
	for (int i = 0; i < 16; i++)
		say("%02x%c", after[160 + 48 + i], i == 15 ? '\n' : ' ');
	return 0;
}
