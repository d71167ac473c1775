/* Returns to compatibility-mode programs as kernels make them, many times over (SDM 2, SYSRET and IRET): by IRETQ with RF, AC, TF, NT, without IF, to other
 * stack pointers and selectors, above 4 GiB, with data segments of the kernel's choice; by SYSRET with all sorts in RCX and R11. Each must find the
 * program as the kernel leaves it. */
#include "../lib64/rt.h"
#include "../lib/ticks.h"

enum { ROUNDS = 200, KINDS = 14, TLS = 12, CODE2 = 20, DATA2 = 21 };
extern char enter[], entry_iret[];
char enter_stack[4096] __attribute__((aligned(16)));
u64 back_rcx, back_r11, back_rsp, enter_calls;
static volatile u64 steps, calls, faults, kind;

/* By SYSRET, with EDX the program's address and EBP its stack pointer. */
asm(".text\nenter: incq enter_calls(%rip); inc %eax; mov %rdx, %rcx; or back_rcx(%rip), %rcx; mov back_r11(%rip), %r11; mov %rbp, %rsp; or back_rsp(%rip), %rsp;"
    "nop; nop; nop; sysretl");

/* EBX counts down, EDI what is not as it should be, ESI sums up what the program finds. ECX and EDX stay through INT 0x80. */
#define MIX "imul $0x1000193, %esi; xor %eax, %esi;"
#define FIND \
	"jc 4f; inc %edi; 4: lea -1(%eax), %eax; cmp %eax, %ebx; je 4f; inc %edi; 4: mov %esp, %eax; sub %ebp, %eax; " MIX \
	"mov %ebp, %esp; mov %cs, %eax; " MIX "mov %ss, %eax; " MIX "mov %ds, %eax; " MIX "mov %es, %eax; " MIX "mov %gs, %eax; " MIX \
	"mov $0x23, %eax; mov %eax, %ds; mov %eax, %es; xor %eax, %eax; mov %eax, %gs; pop %eax; push %eax; pushf; pop %eax; and $0x247700, %eax; " MIX \
	"push $0x202; popf; dec %ebx; jnz 1b"
CODE32(loop32, "xor %edi, %edi; 1: mov %esp, %ebp; mov %ebx, %eax; stc; int $0x80;" FIND);
CODE32(fast32, "xor %edi, %edi; 1: mov %esp, %ebp; mov %ebx, %eax; mov $3f - KBASE, %edx; stc; sysenter; ud2; 3:" FIND);

static void int80(struct frame *f)
{
	calls++;
	f->rax++;
	f->rsp &= 0xffffffff;
	f->rflags |= F_IF;
	switch (kind) {
	case 1: f->rflags |= F_RF; break;
	case 2: f->rflags |= F_AC; break;
	case 3: f->rflags |= F_TF; break;
	case 4: f->rsp -= 8; break;
	case 5: f->cs = CODE2 * 8 + 3; break;
	case 6: f->ss = DATA2 * 8 + 3; break;
	case 7: f->rsp |= 0xabcd00000000; break;
	case 8: f->rip |= 1ul << 32; break;
	case 9: f->rflags &= ~(u64)F_IF; break;
	case 10: asm volatile("mov %0, %%ds; mov %1, %%gs" : : "r"(TLS * 8 + 3), "r"(DATA2 * 8 + 3)); break;
	case 11: asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(3)); break;
	case 12: f->rflags |= F_NT; break;
	case 13: asm volatile("mov %0, %%ds; mov %1, %%es" : : "r"(SEL_KDATA), "r"(0)); break;
	}
}

/* IRETQ above 4 GiB faults: what it was to load is on the stack. */
static void gp(struct frame *f)
{
	if (f->rip != (u64)entry_iret || f->error || *(u64 *)f->rsp >> 32 != 1)
		bad++;
	*(u64 *)f->rsp &= 0xffffffff;
	faults++;
}

static void step(struct frame *f)
{
	steps++;
	f->rflags &= ~(u64)F_TF;
	if ((f->cs & 3) != 3 || !(read_dr6() & 0x4000))
		bad++;
	write_dr6(0xffff0ff0);
}

static void run(const char *name, const void *code)
{
	struct try t;

	calls = enter_calls = steps = faults = 0;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.rbx = ROUNDS;
	t.r.rsi = 0;
	go32(name, code, &t);
	say(" calls %lu %lu steps %lu faults %lu edi %lx esi %lx\n", calls, enter_calls, steps, faults, t.r.rdi & 0xffffffff, t.r.rsi & 0xffffffff);
}

static void fast(const char *name, u64 rcx, u64 r11, u64 rsp)
{
	back_rcx = rcx;
	back_r11 = r11;
	back_rsp = rsp;
	run(name, fast32);
}

int main(void)
{
	static const char *const names[KINDS] = {
		"plain", "RF", "AC", "TF", "RSP", "another CS", "another SS", "RSP of 64 bits", "above 4 GiB", "no IF", "segments", "null segments", "NT", "the kernel's segment",
	};

	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	on(1, step);
	on(13, gp);
	on(0x80, int80);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	on(IRQ_BASE, tick);
	pic_init();
	gdt[TLS] = descriptor(0x1000, 0xfffff, ACC_P | ACC_DPL3 | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	gdt[CODE2] = gdt[SEL_UCODE32 / 8];
	gdt[DATA2] = gdt[SEL_UDATA / 8];
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(0x174, SEL_KCODE);
	wrmsr(0x175, (u64)enter_stack + 4096);
	wrmsr(0x176, (u64)enter);
	for (kind = 0; kind < KINDS; kind++)
		run(names[kind], loop32);
	fast("sysretl", 0, 0x203, 0);
	fast("sysretl, RCX", 0xabcd000100000000, 0x203, 0);
	fast("sysretl, RSP", 0, 0x203, 0xabcd00000000);
	fast("sysretl, RF", 0, 0x10203, 0);
	fast("sysretl, TF", 0, 0x303, 0);
	fast("sysretl, AC", 0, 0x40203, 0);
	fast("sysretl, NT", 0, 0x4203, 0);
	fast("sysretl, no IF", 0, 3, 0);
	fast("sysretl, ID and DF", 0, 0x200603, 0);
	/* Without code that SYSRET could go to; it does not look. */
	gdt[SEL_UCODE32 / 8] &= ~(1ul << 47);
	kind = 5;
	gdt[SEL_UCODE32 / 8] |= 1ul << 47;
	run("another CS", loop32);
	check("nothing bad", bad == 0);
	return 0;
}
