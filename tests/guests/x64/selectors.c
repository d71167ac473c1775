/* Every selector behind the end of the GDT, and every one of an LDT that there is not, is #GP(selector), whoever tries it and as what: there is nobody
 * else's descriptor, of the host's kernel (0x10, 0x33, …) or of a VMM (SDM 3, 5.2, 5.8). */
#include "../lib64/rt.h"

u64 pointer[2] USER;
CODE(jmp_, "ljmp *pointer(%rip)");
CODE(call_, "lcall *pointer(%rip)");
CODE(lret_, "push %rcx; push %rbx; lretq");
CODE(iret_, "mov %rsp, %rax; mov %ss, %edx; push %rdx; push %rax; pushq $2; push %rcx; push %rbx; iretq");
CODE(iret_ss, "mov %rsp, %rax; mov %cs, %edx; push %rcx; push %rax; pushq $2; push %rdx; push %rbx; iretq");
CODE(ds_, "mov %ecx, %ds");
CODE(es_, "push %rcx; mov (%rsp), %es");
CODE(fs_, "push %rcx; pop %fs");
CODE(gs_, "mov %ecx, %gs");
CODE(ss_, "mov %ecx, %ss");
CODE(lldt_, "lldt %cx");
CODE(ltr_, "ltr %cx");
CODE(looks, "xor %eax, %eax; lar %ecx, %edx; setz %al; lsl %ecx, %edx; setz %dl; or %dl, %al; verr %cx; setz %dl; or %dl, %al; verw %cx; setz %dl; or %dl, %al");
CODE32(ds32, "mov %ecx, %ds");
CODE32(jmp32, "movl $0, pointer - KBASE; mov %ecx, pointer - KBASE + 4; ljmp *(pointer - KBASE)");
CODE32(lret32, "push %ecx; push $0; lret");

enum { COMPAT = 32, BOTH = -1 };
static const struct { const char *name; const char *code; int ring; } ways[] = {
	{ "far jmp", jmp_, BOTH }, { "far call", call_, BOTH }, { "far ret", lret_, BOTH }, { "iret", iret_, BOTH }, { "iret to its ss", iret_ss, 3 },
	{ "mov ds", ds_, BOTH }, { "mov es", es_, BOTH }, { "pop fs", fs_, BOTH }, { "mov gs", gs_, BOTH }, { "mov ss", ss_, BOTH },
	{ "lldt", lldt_, 0 }, { "ltr", ltr_, 0 }, { "mov ds", ds32, COMPAT }, { "far jmp", jmp32, COMPAT }, { "far ret", lret32, COMPAT },
};
static u32 limit, odd, seen;

/* The kernel's own CS and SS under rvmm. Its kernel (nobody else) can load them as data: docs/architecture.md, "What is imperfect". */
static int known(u32 selector, const char *code)
{
	return selector >> 3 >= 8174 && selector >> 3 <= 8175 && !(selector & 4) && (code == ds_ || code == es_ || code == fs_ || code == gs_);
}

static void attempt(u32 way, int ring, u32 selector)
{
	struct try t;

	fresh(&t);
	t.r.rcx = selector;
	t.r.rbx = ring ? low(ways[way].code) : (u64)ways[way].code;
	pointer[0] = (u64)selector << 32;
	t.code = ways[way].code;
	(ring == 0 ? try0 : ring == 3 ? try3 : try32)(&t, ways[way].code);
	seen++;
	if ((t.vector != 13 || t.error != (selector & 0xfffc) || (t.cs & 3) != (ring ? 3u : 0)) && odd++ < 40)
		say("%s of %04x ring %d: %s error %lx ring %lu\n", ways[way].name, selector, ring, vector_name(t.vector), t.error, t.cs & 3);
}

static void look(u32 selector, int ring)
{
	struct try t;

	fresh(&t);
	t.r.rcx = selector;
	(ring ? try3 : try0)(&t, looks);
	seen++;
	if ((t.r.rax & 0xff) && odd++ < 40)
		say("%04x can be looked at in ring %d\n", selector, ring);
}

static void all(u32 selector)
{
	for (u32 w = 0; w < sizeof ways / sizeof *ways; w++) {
		if ((ways[w].ring == BOTH || ways[w].ring == 0) && !known(selector, ways[w].code))
			attempt(w, 0, selector);
		if (ways[w].ring == BOTH || ways[w].ring == 3)
			attempt(w, 3, selector);
		if (ways[w].ring == COMPAT)
			attempt(w, COMPAT, selector);
	}
	look(selector, 0);
	look(selector, 3);
}

static void sweep(void)
{
	for (u32 index = (limit + 1) / 8; index < 8192; index += index < 32 ? 1 : index < 7166 ? 1000 : index < 8166 ? 8166 - index : 1)
		for (u32 rpl = 0; rpl < 4; rpl += 3)
			all(index << 3 | rpl);
	/* No LDT. */
	for (u32 index = 0; index < 8192; index += index < 8 ? 1 : 1023)
		for (u32 rpl = 0; rpl < 4; rpl += 3)
			all(index << 3 | 4 | rpl);
}

int main(void)
{
	static const u16 limits[] = { sizeof gdt - 1, SEL_TSS - 1 };

	for (u32 i = 0; i < 2; i++) {
		struct dtr r = { limits[i], (u64)gdt };

		limit = limits[i];
		asm volatile("lgdt %0" : : "m"(r));
		sweep();
		say("limit %x: %u tries\n", limit, seen);
	}
	check("nobody else's descriptor", odd == 0);
	return 0;
}
