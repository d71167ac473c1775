/* Data breakpoints of 1 to 8 bytes and an execution breakpoint, at user addresses and at high kernel addresses, for user code and for the kernel
 * (SDM 3, 18.2.5, 18.3.1). */
#include "../lib64/rt.h"

u64 watched[4] USER __attribute__((aligned(64)));
u64 kernel_watched[4] __attribute__((aligned(64)));
CODE(write8, "nop; mov %rax, (%rbx); nop");
CODE(read8, "nop; mov (%rbx), %rax; nop");
CODE(write_last, "nop; movb %al, 7(%rbx); nop");
CODE(write_next, "nop; mov %rax, 8(%rbx); nop");
CODE(push_it, "nop; mov %rsp, %rdx; lea 8(%rbx), %rsp; push %rax; mov %rdx, %rsp; nop");
CODE(exec, "nop; nop; exec_here: mov $1, %eax; nop");
extern char exec_here[];
static const char *base;

static void seen(struct frame *f)
{
	say(" #DB at +%lu ring %lu dr6 %04lx rf %lu\n", f->rip - (f->cs & 3 ? low(base) : (u64)base), f->cs & 3, read_dr6() & 0xe00f, f->rflags >> 16 & 1);
	write_dr6(0xffff0ff0);
	f->rflags |= F_RF;
}

static void show(const char *name, const char *code, u64 dr7, u64 at)
{
	base = code;
	for (int ring = 0; ring < 4; ring += 3) {
		struct try t;

		if (ring && at >> 47)
			continue;
		write_dr7(dr7);
		fresh(&t);
		t.r.rbx = at;
		t.r.rax = 5;
		(ring ? go3 : go0)(name, code, &t);
		write_dr7(0x400);
	}
}

int main(void)
{
	static const u64 dr7s[] = { 0x00090401, 0x000b0401, 0x000d0401, 0x00010401, 0x00050402 };

	on(1, seen);
	for (int k = 0; k < 2; k++) {
		u64 at = k ? (u64)kernel_watched : low(watched);

		write_dr0(at);
		write_dr1(at);
		say("%s\n", k ? "high" : "low");
		for (u32 i = 0; i < 4; i++) {
			say("dr7 %lx\n", dr7s[i]);
			show("write", write8, dr7s[i], at);
			show("read", read8, dr7s[i], at);
			show("write last", write_last, dr7s[i], at);
			show("write next", write_next, dr7s[i], at);
			show("push", push_it, dr7s[i], at);
		}
	}
	write_dr0(low(exec_here));
	show("execution, low", exec, 0x401, 0);
	write_dr0((u64)exec_here);
	show("execution, high", exec, 0x401, 1ul << 47);
	return 0;
}
