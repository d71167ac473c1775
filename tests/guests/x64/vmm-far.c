/* Every way to let the CPU go on at an address where a VMM's own memory may be (PML4 entry 260), in which the guest has nothing: fast system calls,
 * gates, far pointers, returns; FS and GS with a base there; breakpoints there (SDM 3, 5.8, 17.2). */
#include "../lib64/rt.h"

#define SLOT 0xffff820000000000ul
static const u64 places[] = {
	SLOT, SLOT + 0x123, SLOT + 0x1000, SLOT + 0x2ffc, SLOT + 0x3000, SLOT + 0x4000, SLOT + 0x5000, SLOT + 0x10000, SLOT + 0x1fff8, SLOT + 0x20000,
	SLOT + 0x40000, SLOT + (1ul << 30), SLOT + (1ul << 30) + 0x3000, SLOT + (1ul << 31),
};
static u64 place;
static int verbose, odd;
u64 pointer[2] USER;

CODE(syscall_, "syscall");
CODE(sysenter_, "lea 1f(%rip), %rdx; mov %rsp, %rcx; sysenter; 1: nop");
CODE32(sysenter32, "sysenter");
CODE(sysret_, "mov %rbx, %rcx; mov $2, %r11d; sysretq");
CODE(sysexit_, "mov %rbx, %rdx; mov %rsp, %rcx; sysexitq");
CODE(int_, "int $0x31");
CODE32(int32, "int $0x31");
CODE(int3_, "int3");
CODE32(gate32, "lcall $0x5b, $0");
CODE(lret_, "push %rcx; push %rbx; lretq");
CODE(jmp_, "rex.W ljmp *pointer(%rip)");
CODE(call_, "rex.W lcall *pointer(%rip)");
CODE(iret_, "mov %rsp, %rax; mov %ss, %edx; push %rdx; push %rax; pushq $2; push %rcx; push %rbx; iretq");
CODE(iret_out, "pushq $0x23; push %rdx; pushq $2; push %rcx; push %rbx; iretq");
CODE(fs_, "mov %fs:(%rcx), %rax");
CODE(gs_, "movq $0, %gs:8(%rcx)");
CODE(wrfs, "wrfsbase %rbx; mov %fs:(%rcx), %rax");
CODE(wrgs, "wrgsbase %rbx; movq $0, %gs:8(%rcx)");
CODE(swapgs_, "swapgs; movq $0, %gs:8(%rcx)");
CODE(busy, "mov $50, %ecx; 1: mov %rcx, (%rbx); mov %ds, %eax; mov %eax, %ds; pushfq; popfq; dec %ecx; jnz 1b");

static void attempt(const char *name, const void *code, int ring, u64 rcx, u64 at)
{
	struct try t;
	int good;

	fresh(&t);
	t.r.rcx = rcx;
	t.r.rbx = place;
	t.r.rdx = low(user_stack_top) - 128;
	pointer[0] = place;
	pointer[1] = rcx;
	t.code = code;
	(ring == 0 ? try0 : ring == 3 ? try3 : try32)(&t, code);
	good = t.vector == 14 && t.cr2 == at;
	if (verbose)
		say("%s ring %d: %s error %lx cs %lx rip %s\n", name, ring, vector_name(t.vector), t.error, t.cs & 0xffff,
		    t.rip == place ? "there" : t.rip - (ring ? low(code) : (u64)code) < 64 ? "here" : "ELSEWHERE");
	if (!good && odd++ < 20)
		say(" %s at %016lx: %s error %lx cr2 %016lx\n", name, place, vector_name(t.vector), t.error, t.cr2);
}

static void calls(void)
{
	wrmsr(MSR_LSTAR, place);
	attempt("syscall", syscall_, 3, 0, place);
	wrmsr(0x174, 12 * 8);
	wrmsr(0x175, ist_stack(7));
	wrmsr(0x176, place);
	attempt("sysenter", sysenter_, 3, 0, place);
	attempt("sysenter", sysenter32, 32, 0, place);
	attempt("sysret", sysret_, 0, 0, place);
	attempt("sysexit", sysexit_, 0, 0, place);
	wrmsr(0x174, 0);
}

static void gates(void)
{
	struct gate g = gate(SEL_KCODE, place, GATE_CALL | GATE_DPL3, 0);

	idt[0x31] = gate(SEL_KCODE, place, GATE_INT | GATE_DPL3, 0);
	attempt("int", int_, 0, 0, place);
	attempt("int", int_, 3, 0, place);
	attempt("int", int32, 32, 0, place);
	idt[0x31] = gate(SEL_KCODE, place, GATE_TRAP | GATE_DPL3, 7);
	attempt("int, ist", int_, 0, 0, place);
	attempt("int, ist", int_, 3, 0, place);
	idt[3] = idt[0x31];
	attempt("int3", int3_, 0, 0, place);
	attempt("int3", int3_, 3, 0, place);
	gdt[11] = g.lo;
	gdt[12] = g.hi;
	attempt("call gate", call_, 0, 0x5b, place);
	attempt("call gate", call_, 3, 0x5b, place);
	attempt("call gate", gate32, 32, 0x5b, place);
	gdt[12] = gdt[1];
}

static void pointers(void)
{
	attempt("far jmp", jmp_, 0, SEL_KCODE, place);
	attempt("far call", call_, 0, SEL_KCODE, place);
	attempt("far ret", lret_, 0, SEL_KCODE, place);
	attempt("iret", iret_, 0, SEL_KCODE, place);
	attempt("iret to ring 3", iret_out, 0, SEL_UCODE, place);
	attempt("far jmp", jmp_, 3, SEL_UCODE, place);
	attempt("far call", call_, 3, SEL_UCODE, place);
	attempt("far ret", lret_, 3, SEL_UCODE, place);
	attempt("iret", iret_, 3, SEL_UCODE, place);
}

static void bases(void)
{
	u64 gs = rdmsr(MSR_GS_BASE);

	wrmsr(MSR_FS_BASE, place);
	wrmsr(MSR_GS_BASE, place);
	for (int ring = 0; ring <= 3; ring += 3) {
		attempt("fs", fs_, ring, 0, place);
		attempt("fs + 0x600", fs_, ring, 0x600, place + 0x600);
		attempt("gs - 16", gs_, ring, -16ul, place - 8);
		wrmsr(MSR_FS_BASE, 0);
		wrmsr(MSR_GS_BASE, 0);
		attempt("wrfsbase", wrfs, ring, 0, place);
		attempt("wrgsbase", wrgs, ring, 0, place + 8);
	}
	wrmsr(MSR_GS_BASE, 0);
	wrmsr(MSR_KERNEL_GS_BASE, place);
	attempt("swapgs", swapgs_, 0, 0, place + 8);
	wrmsr(MSR_KERNEL_GS_BASE, 0);
	wrmsr(MSR_GS_BASE, gs);
	wrmsr(MSR_FS_BASE, 0);
}

static u64 breaks;
static u64 scratch;
u64 user_scratch USER;

static void count(struct frame *f)
{
	(void)f;
	breaks++;
}

/* Breakpoints of all kinds there: whoever is there does not trip on them. */
static void breakpoints(void)
{
	static const u64 kinds[] = { 0, 0xdddd0000, 0xffff0000, 0x99990000 };

	on(1, count);
	for (u32 k = 0; k < sizeof kinds / sizeof *kinds; k++) {
		struct try t;
		u64 at = k ? place & ~7ul : place;

		write_dr0(at);
		write_dr1(at + 8);
		write_dr2(at + 0x600);
		write_dr3(at + 0x9f8);
		write_dr7(0x4ff | kinds[k]);
		fresh(&t);
		t.r.rbx = (u64)&scratch;
		try0(&t, busy);
		fresh(&t);
		t.r.rbx = low(&user_scratch);
		try3(&t, busy);
		if (t.vector != VEC_DONE)
			odd++;
		write_dr7(0x400);
	}
	on(1, 0);
}

int main(void)
{
	pic_init();
	set_gate(14, stub(14), GATE_INT, 1);
	write_cr4(read_cr4() | CR4_FSGSBASE);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_SFMASK, 0);
	/* For SYSENTER and SYSEXIT. */
	gdt[13] = gdt[2];
	gdt[14] = gdt[SEL_UCODE32 / 8];
	gdt[15] = gdt[SEL_UDATA / 8];
	gdt[16] = gdt[SEL_UCODE / 8];
	gdt[17] = gdt[SEL_UDATA / 8];
	gdt[12] = gdt[1];
	for (u32 i = 0; i < sizeof places / sizeof *places; i++) {
		place = places[i];
		verbose = i == 0;
		calls();
		gates();
		pointers();
		bases();
		breakpoints();
	}
	check("nothing there", odd == 0);
	check("no breakpoint was met", breaks == 0);
	return 0;
}
