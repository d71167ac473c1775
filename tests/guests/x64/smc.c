/* Kernel code that changes itself: through its own address, through the low alias, sensitive instructions into harmless ones and back, a byte in the middle
 * of an instruction (SDM 3, 9.1.3). */
#include "../lib64/rt.h"

CODE(body, "mov $0x11111111, %eax; pushfq; pop %rbx; nop; nop; nop; mov $1, %ecx; cli; nop; nop");

static void run(const char *name)
{
	struct try t;

	fresh(&t);
	t.r.rbx = 0;
	sti();
	go0(name, body, &t);
	cli();
	say(" rax %lx rbx %lx rcx %lx if %lu\n", t.r.rax, t.r.rbx & ~(u64)F_ARITH, t.r.rcx, t.r.rflags >> 9 & 1);
}

int main(void)
{
	u8 *const own = (u8 *)body, *const alias = (u8 *)low(body);

	pic_init();
	for (int round = 0; round < 3; round++) {
		run("as it was");
		own[1] = 0x22;
		run("immediate, own address");
		alias[2] = 0x33;
		run("immediate, alias");
		memcpy(own + 5, "\x31\xdb", 2); /* xor %ebx, %ebx */
		run("pushfq pop to xor");
		memcpy(alias + 7, "\x9c\x5b\x90", 3);
		run("nops to pushfq pop");
		own[15] = 0x90; /* cli to nop */
		run("cli to nop");
		alias[15] = 0xfa;
		memcpy(own + 7, "\x90\x90\x90", 3);
		memcpy(own + 5, "\x9c\x5b", 2);
		own[1] = alias[2] = 0x11;
	}
	for (u32 i = 0; i < 200; i++) {
		struct try t;

		*(u32 *)((i & 1 ? own : alias) + 1) = i * 0x01010101u;
		fresh(&t);
		try0(&t, body);
		if (t.r.rax != i * 0x01010101u)
			say("%u: %lx\n", i, t.r.rax);
	}
	run("after 200 changes");
	return 0;
}
