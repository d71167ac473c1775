/* A program that has loaded a null selector with an RPL enters its kernel with it (SDM 3, 3.4.2; SDM 2, IRET): the kernel finds it there, and so does the
 * program behind the return, which makes it 0. */
#include "../lib64/rt.h"

static volatile u64 bad, calls;

CODE(odd, "1: mov $3, %eax; mov %eax, %fs; mov $2, %eax; mov %eax, %ds; int $0x80; mov %fs, %ecx; add %ecx, %r12d; mov %ds, %ecx; add %ecx, %r12d; dec %r13d; jnz 1b");

static void int80(struct frame *f)
{
	u16 fs, ds;

	(void)f;
	for (volatile int i = 0; i < 300; i++)
		;
	asm volatile("mov %%fs, %0; mov %%ds, %1" : "=r"(fs), "=r"(ds));
	if (fs != 3 || ds != 2)
		bad++;
	calls++;
}

int main(void)
{
	struct try t;

	on(0x80, int80);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3, 0);
	/* FSGSBASE. */
	write_cr4(read_cr4() | 1ul << 16);
	wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	for (int i = 0; i < 3; i++) {
		fresh(&t);
		t.r.rflags |= F_IF;
		t.r.r12 = 0;
		t.r.r13 = 100;
		go3("null selectors", odd, &t);
		say(" calls %lu bad %lu r12 %lx\n", calls, bad, t.r.r12);
	}
	return 0;
}
