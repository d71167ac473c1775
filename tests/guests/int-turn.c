/* INT n of programs that run as kernels run theirs, many times over (SDM 2, INT n; SDM 3, 6.12): through interrupt and trap gates, on the stack of the TSS,
 * whose ESP0 changes from call to call and whose SS0 does now and then, once to a segment that is not flat; with prefixes, flags and data segments of all
 * kinds. Each must find the frame, and leave the program, as it should. */
#include "lib/rt.h"
#include "lib/ticks.h"

enum { SEL_KDATA2 = SEL_FREE, SEL_KSMALL = SEL_FREE + 8, SEL_UBASED = SEL_FREE + 16 + 3 };
static char stacks[4][4096] __attribute__((aligned(4096)));
static volatile u32 calls, sum, gate_if, expect_top, expect_ss;

/* ESI counts what is not as it should be, EDI down. EFLAGS beyond the usual and data segments come from EDI, too. */
CODE(loop, "xor %esi, %esi; 1: mov %esp, %ebp; mov $0x23, %edx; test $8, %edi; jz 2f; xor %edx, %edx; 2: mov %edx, %fs; mov $0x4b, %edx; test $4, %edi; jz 2f; mov $0x23, %edx; 2: mov %edx, %gs;"
	   "test $48, %edi; jnz 2f; mov $3, %edx; 2: mov %edx, %es; mov %edi, %eax; and $0x40, %eax; shl $4, %eax; mov %edi, %edx; and $0x81, %edx; cmp $0x81, %edx; jne 2f; or $0x4000, %eax; 2:"
	   "mov %edi, %edx; and $0x83, %edx; cmp $0x82, %edx; jne 2f; or $0x40000, %eax; 2: test $4, %edi; jz 2f; or $0x200000, %eax; 2: or $0x203, %eax; push %eax; popf;"
	   "mov $0x1234, %ecx; mov $0x5678, %edx; mov %edi, %eax; int $0x80; jc 3f; inc %esi; 3: cmp %esp, %ebp; je 3f; inc %esi; 3: cmp $0x1234, %ecx; je 3f; inc %esi; 3: cmp $0x5678, %edx; je 3f; inc %esi;"
	   "3: lea -1(%eax), %edx; cmp %edx, %edi; je 3f; inc %esi; 3: .byte 0x66, 0xcd, 0x80; lea -2(%eax), %edx; cmp %edx, %edi; je 3f; inc %esi; 3:"
	   "push $0x202; popf; dec %edi; jnz 1b; mov $0x23, %edx; mov %edx, %es; mov %edx, %fs; mov %edx, %gs");
CODE(two, "xor %esi, %esi; 1: mov %edi, %eax; int $0x80; int $0x81; int $0x81; sub $3, %eax; cmp %eax, %edi; je 3f; inc %esi; 3: dec %edi; jnz 1b");

static void mix(u32 v)
{
	sum = (sum << 7 | sum >> 25) ^ v;
}

static void int80(struct frame *f)
{
	u32 ss, cs, flags = read_flags();

	asm volatile("mov %%ss, %0; mov %%cs, %1" : "=r"(ss), "=r"(cs));
	calls++;
	if ((ss & 0xffff) != expect_ss || (cs & 0xffff) != SEL_KCODE || (flags & (F_TF | F_NT | F_IOPL | F_VM)) || (flags & F_IF) != gate_if)
		bad++;
	if (expect_top && (u32)(f + 1) != expect_top)
		bad++;
	mix(f->cs & 0xffff), mix(f->ss & 0xffff), mix(f->eflags), mix(f->eip), mix(f->esp), mix(expect_top ? (u32)(f + 1) & 0xfff : 0), mix(flags & (F_AC | F_ID)), mix(f->vector), mix(f->error);
	mix(f->ds & 0xffff), mix(f->es & 0xffff), mix(f->fs & 0xffff), mix(f->gs & 0xffff);
	f->eax++;
	/* The next one comes on another stack. */
	expect_top = tss->esp0 = (u32)stacks[calls % 3] + 4096 - calls % 23;
	if (calls % 16 == 0)
		expect_ss = tss->ss0 = calls % 64 == 0 ? SEL_KSMALL : calls % 32 ? SEL_KDATA2 : SEL_KDATA;
}

static void run(const char *name, const void *code)
{
	struct try t;

	calls = sum = 0;
	fresh(&t);
	t.r.eflags = F_IF | 2;
	t.r.edi = 300;
	expect_ss = tss->ss0 = SEL_KDATA;
	expect_top = 0; /* where try3() has it */
	go3(name, code, &t);
	say(" calls %u bad %u sum %x differences %x\n", calls, bad, sum, t.r.esi);
}

int main(void)
{
	gdt[SEL_KDATA2 / 8] = gdt[SEL_KDATA / 8];
	gdt[SEL_KSMALL / 8] = descriptor(0, 0x7ffff, ACC_P | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	gdt[SEL_UBASED / 8] = descriptor(0x12345000, 0xfffff, ACC_P | ACC_S | ACC_DATA | ACC_A | ACC_DPL3, FLAG_G | FLAG_D);
	paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP);
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(0x81, int80);
	on(2, nmi);
	pic_init();
	for (int trap = 0; trap < 2; trap++) {
		gate_if = trap ? F_IF : 0;
		set_gate(0x80, stub(0x80), (trap ? GATE_TRAP : GATE_INT) | GATE_DPL3);
		set_gate(0x81, stub(0x81), (trap ? GATE_TRAP : GATE_INT) | GATE_DPL3);
		run("all kinds", loop);
		run("two", two);
	}
	return 0;
}
