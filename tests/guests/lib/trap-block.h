/* Sensitive instructions that no jump has room for: each is the last of its page, behind a call that nothing can be moved together with. Run until they
 * are hot, among interrupts; then rewritten, and run again. Behind rt.h and ticks.h; for both code sizes. */
#pragma once

/* The last instruction of a page, with what comes before the call in front of it, and behind it in the next page. */
#define LAST(name, before, instruction, behind) \
	asm(".pushsection .guest,\"ax\"\n.balign 4096\n.skip 4096 - (" #name "_end - " #name ")\n" #name ": " before "call nothing; " #name "_last: " instruction "\n" #name "_end: " behind \
	    "\n.popsection"); \
	extern char name[], name##_last[]

#ifdef __x86_64__
#define REG(x) "%r" #x
#define IRET "iretq"
#define FRAME "mov %ss, %eax; push %rax; lea 8(%rsp), %rcx; push %rcx; pushf; mov %cs, %eax; push %rax; push $back; "
/* PUSH RSP */
enum { OTHER = 0x54 };
#define COUNT rdi
#define CALLS rdx
#define WRONG rsi
#define NUMBER "%lu"
typedef u64 word;
#else
#define REG(x) "%e" #x
#define IRET "iret"
#define FRAME "pushf; push %cs; push $back; "
/* PUSH CS */
enum { OTHER = 0x0e };
#define COUNT edi
#define CALLS edx
#define WRONG esi
#define NUMBER "%u"
typedef u32 word;
#endif

asm(".pushsection .guest,\"ax\"\n.balign 16\nnothing: ret\n.popsection");
LAST(flags, "", "pushf", "pop " REG(ax) "; ret");
LAST(set, "push " REG(cx) "; ", "popf", "ret");
LAST(code_segment, "", "mov %cs, %eax", "ret");
LAST(stack_segment, "", "mov %ss, %eax", "ret");
LAST(same, FRAME, IRET, "back: mov $7, %eax; ret");
/* The handler of INT 0x80. */
LAST(int_80, "inc %edx; ", IRET, "ud2");

CODE(program, "xor %esi, %esi; xor %edx, %edx; 1: mov " REG(sp) ", " REG(bp) "; stc; int $0x80; jc 2f; inc %esi; 2: cmp " REG(sp) ", " REG(bp) "; je 2f; inc %esi; 2: dec %edi; jnz 1b");

static word call(const char *function, word cx)
{
	word ax = 0;

#ifdef __x86_64__
	/* Not in what lives below the stack pointer. */
	asm volatile("sub $128, %%rsp; call *%2; add $128, %%rsp" : "+a"(ax), "+c"(cx) : "r"(function) : "memory", "cc");
#else
	asm volatile("call *%2" : "+a"(ax), "+c"(cx) : "r"(function) : "memory", "cc");
#endif
	return ax;
}

static void all(const char *when)
{
	word seen[5] = { 0 };
	struct try t;

	for (u32 n = 0; n < 300; n++) {
		word wanted = 2 | (n & 1 ? F_IF : 0) | (n & 2 ? F_AC : 0) | (n & 4 ? F_ID : 0), now;

		call(set, wanted);
		now = call(flags, 0);
		seen[0] += (now & (F_IF | F_AC | F_ID)) != (wanted & ~(word)2);
		call(set, n & 1 ? F_IF | 2 : 2);
		seen[1] += (call(code_segment, 0) & 0xffff) != SEL_KCODE;
		seen[2] += (call(stack_segment, 0) & 0xffff) != SEL_KDATA;
		seen[3] += call(same, 0) != 7;
		seen[4] += (read_flags() & F_IF) != (n & 1 ? F_IF : 0);
	}
	asm volatile("cli");
	say("%s: wrong " NUMBER " " NUMBER " " NUMBER " " NUMBER " " NUMBER "\n", when, seen[0], seen[1], seen[2], seen[3], seen[4]);
	fresh(&t);
	t.r.FRAME_FLAGS = F_IF | 2;
	t.r.COUNT = 300;
	go3("program", program, &t);
	say(" calls " NUMBER " differences " NUMBER " bad " NUMBER "\n", t.r.CALLS, t.r.WRONG, bad);
}

static void everything(void)
{
	volatile u8 *last = (u8 *)flags_last;

	all("first");
	*last = OTHER;
	/* The same each time, whatever it is: CS, or the stack's address. */
	say("rewritten: %s\n", call(flags, 0) == call(flags, 0) && call(flags, 0) != call(stack_segment, 0) ? "other" : "the same");
	*last = 0x9c;
	all("again");
}
