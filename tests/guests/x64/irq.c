/* Interrupts of the timer in ring 3, in compatibility mode and in HLT: frame, all sixteen registers kept, EOI, no loss (SDM 3, 6.14). */
#include "../lib64/rt.h"

static volatile u32 ticks;
static u32 bad;
static u64 want_cs;
extern char loop3[], loop3_end[], loop32[], loop32_end[];

static void tick(struct frame *f)
{
	pic_eoi(0);
	ticks++;
	if (!want_cs)
		return;
	if (f->cs != want_cs || f->ss != SEL_UDATA || !(f->rflags & F_IF) || (u64)(f + 1) != tss->rsp[0])
		bad++;
	if (ticks % 20 == 0) /* out of the loop: its ret */
		f->rip = want_cs == SEL_UCODE ? low(loop3_end) - 1 : low(loop32_end) - 1;
}

CODE(loop3, "1: inc %rax; jmp 1b; nop");
CODE32(loop32, "1: inc %eax; jmp 1b; nop");

int main(void)
{
	struct try t;

	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	pit_start(1000);
	for (int compat = 0; compat < 2; compat++) {
		ticks = 0;
		want_cs = compat ? SEL_UCODE32 : SEL_UCODE;
		fresh(&t);
		t.r.rflags = F_IF | 2;
		(compat ? go32 : go3)("loop", compat ? loop32 : loop3, &t);
		say("rbx %lx rcx %lx rdx %lx rsi %lx rdi %lx rbp %lx\n", t.r.rbx & 0xffffffff, t.r.rcx & 0xffffffff, t.r.rdx & 0xffffffff,
		    t.r.rsi & 0xffffffff, t.r.rdi & 0xffffffff, t.r.rbp & 0xffffffff);
		if (!compat)
			say("r8 %lx r9 %lx r10 %lx r11 %lx r12 %lx r13 %lx r14 %lx r15 %lx\n", t.r.r8, t.r.r9, t.r.r10, t.r.r11, t.r.r12, t.r.r13, t.r.r14, t.r.r15);
		check("20 ticks", ticks >= 20);
	}
	want_cs = 0;
	ticks = 0;
	for (int i = 0; i < 20; i++)
		asm volatile("sti; hlt; cli" : : : "memory");
	check("hlt woke 20 times", ticks >= 20);
	pit_stop();
	check("frames right", bad == 0);
	return 0;
}
