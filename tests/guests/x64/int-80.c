/* INT 0x80 from 64-bit and from compatibility-mode user code, through an interrupt and a trap gate of DPL 3: frame, stack of the TSS, SS
 * null in the kernel; #GP with the vector where the gate has DPL 0 (SDM 2, INT n; SDM 3, 6.14). */
#include "../lib64/rt.h"

static u16 ss_inside;
static struct frame seen;
CODE(call, "mov $7, %eax; int $0x80; mov %eax, %ebx");
CODE32(call32, "mov $7, %eax; int $0x80; mov %eax, %ebx");
CODE(denied, "int $0x81");
CODE32(denied32, "int $0x81");

static void int80(struct frame *f)
{
	asm volatile("mov %%ss, %0" : "=r"(ss_inside));
	seen = *f;
	f->rax = f->rax + 1;
}

static void show(const char *name, int (*run)(const char *, const void *, struct try *), const char *code, u64 flags)
{
	struct try t;
	u64 rsp;

	fresh(&t);
	t.r.rflags = flags | 2;
	rsp = t.r.rsp;
	run(name, code, &t);
	say(" frame: rip +%lu cs %lx rflags %lx rsp -%lu ss %lx; ss inside %x; rbx %lx\n", seen.rip - low(code), seen.cs, seen.rflags,
	    rsp - seen.rsp, seen.ss, ss_inside, t.r.rbx);
}

int main(void)
{
	pic_init();
	on(0x80, int80);
	for (int trap = 0; trap < 2; trap++) {
		set_gate(0x80, stub(0x80), (trap ? GATE_TRAP : GATE_INT) | GATE_DPL3, 0);
		show("64", go3, call, F_IF | F_CF);
		show("32", go32, call32, F_IF | F_CF);
		show("64 ac", go3, call, F_AC | F_NT);
		show("32 df", go32, call32, F_DF | F_IOPL);
	}
	go3("DPL 0, 64", denied, 0);
	go32("DPL 0, 32", denied32, 0);
	return 0;
}
