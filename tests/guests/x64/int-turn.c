/* INT n of programs that run as kernels run theirs, many times over (SDM 2, INT n; SDM 3, 6.14): from 64-bit and compatibility-mode code, through interrupt
 * and trap gates, on the stack of the TSS, which changes from call to call and is aligned to 16 bytes or not, and on an interrupt stack; with prefixes,
 * flags and data segments of all kinds. Each must find the frame, and leave the program, as it should. */
#include "../lib64/rt.h"
#include "../lib/ticks.h"

static char stacks[4][4096] __attribute__((aligned(4096)));
static struct tss own_tss __attribute__((aligned(4096)));
static volatile u64 calls, sum;
static volatile int ist;
static volatile u64 gate_if, expect_top;

/* R12 counts what is not as it should be, R13 down. What EFLAGS has beyond the usual is R13 in the places of DF, NT, AC and ID. */
CODE(loop64,
     "xor %r12d, %r12d; 1: mov %rsp, %rbp; mov $0x1234, %ecx; mov $0x5678, %r11d; mov $0x23, %esi; test $8, %r13b; jz 2f; xor %esi, %esi; 2: mov %esi, %ds;"
     "test $48, %r13b; jnz 2f; mov $3, %esi; 2: mov %esi, %es; mov %r13d, %eax; and $0x40, %eax; shl $4, %eax; mov %r13d, %edx; and $0x81, %edx; cmp $0x81, %edx; jne 2f; or $0x4000, %eax; 2:"
     "mov %r13d, %edx; and $0x83, %edx; cmp $0x82, %edx; jne 2f; or $0x40000, %eax; 2: test $4, %r13b; jz 2f; or $0x200000, %eax; 2: or $0x203, %eax; push %rax; popfq;"
     "mov %r13d, %eax; int $0x80; 2: jc 3f; inc %r12; 3: cmp %rsp, %rbp; je 3f; inc %r12; 3: cmp $0x1234, %ecx; je 3f; inc %r12; 3: cmp $0x5678, %r11d; je 3f; inc %r12;"
     "3: lea -1(%rax), %edx; cmp %edx, %r13d; je 3f; inc %r12; 3: .byte 0x48, 0xcd, 0x80; lea -2(%rax), %edx; cmp %edx, %r13d; je 3f; inc %r12; 3:"
     "pushq $0x202; popfq; mov $0x23, %esi; mov %esi, %ds; mov %esi, %es; dec %r13d; jnz 1b");
CODE32(loop32,
       "xor %edi, %edi; 1: mov %esp, %ebp; mov $0x1234, %ecx; mov %ebx, %eax; and $0x40, %eax; shl $4, %eax; or $0x203, %eax; push %eax; popf;"
       "mov %ebx, %eax; int $0x80; 2: jc 3f; inc %edi; 3: cmp %esp, %ebp; je 3f; inc %edi; 3: cmp $0x1234, %ecx; je 3f; inc %edi;"
       "3: lea -1(%eax), %edx; cmp %edx, %ebx; je 3f; inc %edi; 3: .byte 0x66, 0xcd, 0x80; lea -2(%eax), %edx; cmp %edx, %ebx; je 3f; inc %edi; 3:"
       "push $0x202; popf; dec %ebx; jnz 1b");
CODE(two, "xor %r12d, %r12d; 1: mov %r13d, %eax; int $0x80; int $0x81; int $0x81; sub $3, %eax; cmp %eax, %r13d; je 3f; inc %r12; 3: dec %r13d; jnz 1b");

static void mix(u64 v)
{
	sum = (sum << 7 | sum >> 57) ^ v;
}

static void int80(struct frame *f)
{
	u16 ss, cs;
	u64 flags = read_flags();

	asm volatile("mov %%ss, %0; mov %%cs, %1" : "=r"(ss), "=r"(cs));
	calls++;
	if (ss != 0 || cs != SEL_KCODE || (flags & (F_TF | F_NT | F_IOPL)) || (flags & F_IF) != gate_if)
		bad++;
	if ((u64)(f + 1) != (expect_top & ~15ul))
		bad++;
	mix(f->cs), mix(f->ss), mix(f->rflags), mix(f->rip), mix(f->rsp), mix((u64)(f + 1) & 0xfff), mix(flags & (F_AC | F_ID)), mix(f->vector), mix(f->error);
	f->rax++;
	/* The next one comes on another stack. */
	if (!ist)
		expect_top = own_tss.rsp[0] = (u64)stacks[calls % 3] + 4096 - calls % 23;
	else
		expect_top = own_tss.ist[ist - 1] = (u64)stacks[calls % 3] + 4096 - calls % 23;
}

static void run(const char *name, int (*go)(const char *, const void *, struct try *), const void *code)
{
	struct try t;

	calls = sum = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = t.r.rbx = 300;
	if (!ist)
		expect_top = own_tss.rsp[0];
	else
		expect_top = own_tss.ist[ist - 1];
	go(name, code, &t);
	say(" calls %lu bad %lu sum %lx r12 %lx edi %lx\n", calls, bad, sum, t.r.r12, go == go32 ? t.r.rdi & 0xffffffff : 0);
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(0x81, int80);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	pic_init();
	own_tss.iomap = 0xffff;
	own_tss.rsp[0] = (u64)stacks[3] + 4096;
	for (int i = 0; i < 7; i++)
		own_tss.ist[i] = (u64)stacks[3] + 4096;
	system_descriptor(gdt + SEL_TSS / 8, (u64)&own_tss, 103, 0x89);
	asm volatile("ltr %w0" : : "r"(SEL_TSS));
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	for (int trap = 0; trap < 2; trap++) {
		gate_if = trap ? F_IF : 0;
		for (ist = 0; ist < 8; ist += 7) {
			set_gate(0x80, stub(0x80), (trap ? GATE_TRAP : GATE_INT) | GATE_DPL3, ist);
			set_gate(0x81, stub(0x81), (trap ? GATE_TRAP : GATE_INT) | GATE_DPL3, ist);
			run("64", go3, loop64);
			run("32", go32, loop32);
			run("two", go3, two);
		}
	}
	return 0;
}
