/* What x64-sysexit-turn and x64-sysexit-kept have in common: SYSEXIT of 64-bit kernels, many times over (SDM 2, SYSEXIT): to compatibility code and, by its operand size, to 64-bit code; with flags and data segments of all
 * kinds, upper halves of RCX and RDX that do not count, with and without STI right before. It changes no flag and no data segment, and its CS and SS are flat whatever
 * the table has there. Included once, behind KEPT: whether programs are left what an IRET would take away. With it, an interrupt in between would change what they see. */
#include "rt.h"
#include "../lib/ticks.h"

enum { ROUNDS = 300, TLS = 12, OTHER = 14, WAYS = 4 };
struct call { u64 gs, fs, es, ds, rdi, rsi, rdx, rcx, rax, rflags; };
extern char enter[], way_sti[], way_flags_sti[], way_flags[], way_closed[], way_long[];
static char *const ways[WAYS] = { way_sti, way_flags_sti, way_flags, way_closed };
char enter_stack[8192] __attribute__((aligned(16)));
char *enter_way;
u64 enter_flags;
static u64 enter_cs, way, calls, sum;
void entered(struct call *c);

asm(".text\nenter: pushfq; push %rax; push %rcx; push %rdx; push %rsi; push %rdi; mov %ds, %eax; push %rax; mov %es, %eax; push %rax; mov %fs, %eax; push %rax; mov %gs, %eax; push %rax;"
    "pushq $2; popfq; mov %rsp, %rdi; call entered; pop %rax; mov %eax, %gs; pop %rax; mov %eax, %fs; pop %rax; mov %eax, %es; pop %rax; mov %eax, %ds;"
    "pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax; add $8, %rsp; jmp *enter_way(%rip);"
    "way_sti: nop; nop; nop; sti; sysexitl;"
    "way_flags_sti: pushq enter_flags(%rip); popfq; btc $40, %rdx; btc $63, %rcx; sti; sysexitl;"
    "way_flags: pushq enter_flags(%rip); popfq; nop; nop; nop; sysexitl;"
    "way_closed: nop; nop; nop; nop; sysexitl;"
    "way_long: nop; nop; nop; sti; sysexitq");

CODE32(loop32,
       "xor %edi, %edi; xor %esi, %esi; 1: mov $0x203, %eax; test $1, %ebx; jz 2f; or $0x400, %eax; 2: test $2, %ebx; jz 2f; or $0x200000, %eax; 2:"
       "mov %ebx, %edx; and $0x2f, %edx; cmp $0x2b, %edx; jne 2f; or $0x4000, %eax; 2: push %eax; popf;"
       "mov %esp, %ebp; mov %esp, %ecx; mov $3f - KBASE, %edx; mov %ebx, %eax; stc; sysenter; ud2; 3: jc 4f; inc %edi; 4: cmp %esp, %ebp; je 4f; inc %edi; 4:"
       "lea -1(%eax), %ecx; cmp %ecx, %ebx; je 4f; inc %edi; 4: pushf; pop %eax; and $~0x10, %eax; rol $7, %esi; xor %eax, %esi; mov %cs, %eax; add %eax, %esi;"
       "mov %ss, %eax; xor %eax, %esi; mov %ds, %eax; rol $5, %esi; xor %eax, %esi; mov %es, %eax; rol $5, %esi; xor %eax, %esi; mov %fs, %eax; rol $5, %esi;"
       "xor %eax, %esi; mov %gs, %eax; rol $5, %esi; xor %eax, %esi; push $0x203; popf; dec %ebx; jnz 1b; xor %ecx, %ecx; mov %ecx, %fs; mov %ecx, %gs; mov $0x23, %ecx; mov %ecx, %ds; mov %ecx, %es");
CODE(loop64,
     "xor %r12d, %r12d; 1: mov %rsp, %rbp; mov %rsp, %rcx; mov %r13d, %eax; lea 3f(%rip), %rdx; sysenter; ud2; 3: cmp %rsp, %rbp; je 4f; inc %r12; 4:"
     "lea -1(%rax), %ecx; cmp %ecx, %r13d; je 4f; inc %r12; 4: mov %cs, %ecx; cmp $0x2b, %ecx; je 4f; add $0x10000, %r12; 4: mov %ss, %ecx; cmp $0x23, %ecx; je 4f; add $0x100, %r12; 4: dec %r13d; jnz 1b");

static void mix(u64 v)
{
	sum = (sum << 7 | sum >> 57) ^ v;
}

void entered(struct call *c)
{
	u32 cs, ss, n = calls++;

	asm volatile("mov %%cs, %0; mov %%ss, %1" : "=r"(cs), "=r"(ss));
	if (cs != enter_cs || ss != enter_cs + 8 || (u64)(c + 1) != (u64)enter_stack + sizeof enter_stack || (c->rflags & (F_IF | F_TF)))
		bad++;
	mix(c->rflags & ~(u64)F_AF), mix(c->ds), mix(c->es), mix(c->fs), mix(c->gs);
	c->rax++;
	c->ds = c->es = c->fs = c->gs = SEL_UDATA;
	enter_flags = n % 3 ? 2 : F_OF | F_SF | F_DF | F_ID | 2;
	switch (way == WAYS ? n % 32 : 0) {
	case 3: c->ds = TLS * 8 + 3, c->gs = 0; break;
	case 6: c->es = KEPT ? 3 : 0; break;
	case 9: c->fs = KEPT ? SEL_KDATA : 0; break;
	case 12: c->gs = SEL_UDATA & ~3; break;
	case 15: c->es = KEPT ? SEL_KDATA : 0; break;
	case 21: enter_flags |= F_IOPL; break;
	case 24: enter_flags |= F_NT; break;
	case 27: enter_flags |= F_AC; break;
	}
	enter_way = way > WAYS ? way_long : ways[way < WAYS ? way : n % 13 == 5 ? 3 : n % WAYS];
	if (enter_way == way_flags)
		enter_flags |= F_IF;
}

static void run(const char *name, int (*go)(const char *, const void *, struct try *), const void *code, u64 w, u64 rounds)
{
	struct try t;

	calls = sum = 0;
	way = w;
	fresh(&t);
	t.r.rflags |= F_IF;
	t.r.r13 = t.r.rbx = rounds;
	go(name, code, &t);
	say(" calls %lu sum %lx r12 %lx edi %lx esi %lx\n", calls, sum, go == go32 ? 0 : t.r.r12, go == go32 ? t.r.rdi & 0xffffffff : 0, go == go32 ? t.r.rsi & 0xffffffff : 0);
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(2, nmi);
	set_gate(2, stub(2), GATE_INT, 1);
	pic_init();
	gdt[TLS] = descriptor(0x1000, 0xfffff, ACC_P | ACC_DPL3 | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	/* The kernel's two, a program's compatibility code and stack, and 64-bit code and stack. */
	gdt[OTHER] = gdt[1];
	gdt[OTHER + 1] = gdt[2];
	gdt[OTHER + 2] = gdt[SEL_UCODE32 / 8];
	gdt[OTHER + 3] = gdt[SEL_UDATA / 8];
	gdt[OTHER + 4] = gdt[SEL_UCODE / 8];
	gdt[OTHER + 5] = gdt[SEL_UDATA / 8];
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(0x175, (u64)enter_stack + sizeof enter_stack);
	wrmsr(0x176, (u64)enter);
	for (int odd = 0; odd < 2; odd++) {
		wrmsr(0x174, odd ? OTHER * 8 + 1 : SEL_KCODE);
		enter_cs = odd ? OTHER * 8 : SEL_KCODE;
		run("sti", go32, loop32, 0, ROUNDS);
		run("flags, sti", go32, loop32, 1, ROUNDS);
		run("flags", go32, loop32, 2, ROUNDS);
		run("closed", go32, loop32, 3, 20);
		run("all kinds", go32, loop32, WAYS, 2 * ROUNDS);
		/* The first time its SS is the TSS by name. */
		if (odd || KEPT)
			run("64", go3, loop64, WAYS + 1, odd ? ROUNDS : 20);
	}
	check("nothing bad", bad == 0);
	return 0;
}
