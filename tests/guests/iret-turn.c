/* Returns to a program by IRET, many times over, of which a few are special (SDM 2, IRET): with TF, NT, AC, IOPL, IF clear or RF in the frame, to other
 * code and stack segments, by LDT selectors, with segments of the kernel's in data registers, which become null. The program tells what it finds. */
#include "lib/rt.h"
#include "lib/ticks.h"

enum { SEL_UCODE2 = SEL_FREE + 3, SEL_UDATA2 = SEL_FREE + 8 + 3, SEL_CONFORMING = SEL_FREE + 16, SEL_SMALL = SEL_FREE + 24 + 3, SEL_DPL1 = SEL_FREE + 32 + 1 };
static volatile u32 calls, steps, sum, last_kind;
extern char loop[];

/* What the program finds goes back to the kernel with the next call. */
CODE(loop, "1: int $0x80; pushf; pop %ebx; mov %ds, %ebp; mov %es, %ecx; mov %fs, %edx; mov %gs, %esi; mov %ss, %eax; shl $16, %eax; mov %cs, %ax; sub $1, %edi; jnz 1b");

static void mix(u32 v)
{
	sum = (sum << 7 | sum >> 25) ^ v;
}

static void int80(struct frame *f)
{
	u32 kind = calls++ % 64;

	if (calls > 1)
		mix(f->ebx & ~(u32)F_ARITH), mix(f->ebp & 0xffff), mix(f->ecx & 0xffff), mix(f->edx & 0xffff), mix(f->esi & 0xffff), mix(f->eax);
	mix(f->eflags & ~(u32)(F_ARITH | F_RF)), mix(f->ds & 0xffff), mix(f->es & 0xffff), mix(f->fs & 0xffff), mix(f->gs & 0xffff), mix(f->esp), mix(f->cs & 0xffff), mix(f->ss & 0xffff);
	last_kind = kind;
	f->cs = SEL_UCODE;
	f->ss = SEL_UDATA;
	f->eflags = F_IF | 2;
	f->ds = f->es = f->fs = f->gs = SEL_UDATA;
	switch (kind) {
	case 6: f->eflags |= F_TF; break;
	case 10: f->eflags |= F_NT; break;
	case 14: f->eflags |= F_AC; break;
	case 18: f->eflags |= F_IOPL; break;
	case 22: f->eflags &= ~F_IF; break;
	case 26: f->eflags |= F_RF | F_ID | F_DF | F_ARITH; break;
	case 30: f->cs = SEL_UCODE2; break;
	case 34: f->ss = SEL_UDATA2; break;
	case 38: f->cs = SEL_CONFORMING | 3; break;
	case 42: f->cs = 0x0f, f->ss = 0x17, f->ds = 0x17; break;
	case 46: f->ds = SEL_KDATA, f->es = SEL_KDATA, f->fs = SEL_DPL1, f->gs = SEL_KCODE; break;
	case 48: f->ds = 3, f->es = 2, f->fs = 0; break;
	case 50: f->ds = SEL_CONFORMING, f->es = SEL_UDATA2, f->fs = SEL_SMALL, f->gs = SEL_UCODE2; break;
	case 52: f->ds = SEL_KDATA; break;
	case 54: f->gs = SEL_KDATA; break;
	case 56: f->cs |= 0xabcd0000, f->ss |= 0x12340000; break;
	case 58: f->ss = SEL_SMALL; break;
	case 60: f->fs = 0; break;
	}
}

static void step(struct frame *f)
{
	steps++;
	if (!(f->cs & 3))
		bad++;
	mix(f->eip - (u32)loop);
	f->eflags &= ~F_TF;
}

/* With IF clear or IOPL 3 nothing else is odd; but a #GP is not expected. */
static void run(const char *name)
{
	struct try t;

	calls = sum = steps = 0;
	fresh(&t);
	t.r.eflags = F_IF | 2;
	t.r.edi = 640;
	go3(name, loop, &t);
	say(" calls %u steps %u bad %u sum %x\n", calls, steps, bad, sum);
}

int main(void)
{
	gdt[SEL_UCODE2 / 8] = gdt[SEL_UCODE / 8];
	gdt[SEL_UDATA2 / 8] = gdt[SEL_UDATA / 8];
	gdt[SEL_CONFORMING / 8] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D);
	gdt[SEL_SMALL / 8] = descriptor(0, 0x7ffff, 0xf3, FLAG_G | FLAG_D);
	gdt[SEL_DPL1 / 8] = descriptor(0, 0xfffff, 0xb3, FLAG_G | FLAG_D);
	ldt[1] = gdt[SEL_UCODE / 8];
	ldt[2] = gdt[SEL_UDATA / 8];
	gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP);
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(1, step);
	on(2, nmi);
	pic_init();
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3);
	run("interrupt gate");
	set_gate(0x80, stub(0x80), GATE_TRAP | GATE_DPL3);
	run("trap gate");
	return 0;
}
