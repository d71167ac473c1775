/* Sensitive instructions too close to each other for a jump each: IRETQ behind PUSHFQ, and CLI, STI and PUSHFQ in front of a short
 * return that INT3 fills up, as Linux has them. Run until they are hot, then entered in the middle, and rewritten. */
#include "../lib64/rt.h"

/* As Linux synchronises a CPU; RDX becomes the flags behind it. */
CODE(sync, "push %rax; popfq; mov %ss, %eax; push %rax; push %rsp; addq $8, (%rsp); pushfq; mov %cs, %eax; push %rax;"
	"sync_push: pushq $sync_behind; sync_iret: iretq; sync_behind: pushfq; pop %rdx; sync_mark: mov $1, %ebx; push $2; popfq");
extern char sync_push[], sync_iret[], sync_behind[], sync_mark[];
/* The same frame, but for its RIP, and on to RCX; with RIP and on to RDI. */
CODE(late, "mov %rsp, %rbp; mov %ss, %edx; push %rdx; push %rbp; push %rax; mov %cs, %edx; push %rdx; jmp *%rcx");
CODE(later, "mov %rsp, %rbp; mov %ss, %edx; push %rdx; push %rbp; push %rax; mov %cs, %edx; push %rdx; push %rsi; jmp *%rcx");

/* Functions of a few bytes, each with its padding. */
asm(".pushsection .guest,\"ax\"\n"
    ".balign 16\nsave: pushfq; pop %rax; ret; .fill 4, 1, 0xcc; nopl (%rax)\n"
    ".balign 16\noff: cli; ret; .fill 6, 1, 0xcc\n"
    ".balign 16\non_: sti; ret; .fill 6, 1, 0xcc\n"
    ".popsection");
extern char save[], off[], on_[];
/* Calls RCX with the flags in RAX; RBX becomes its RAX, RDX the flags behind it. */
CODE(call, "push %rax; popfq; call *%rcx; mov %rax, %rbx; pushfq; pop %rdx; push $2; popfq");

static u64 breaks, broke;

static void bp(struct frame *f)
{
	asm volatile("cld");
	breaks++;
	broke = f->rip - 1;
	/* As if the function had returned. */
	f->rip = *(u64 *)f->rsp;
	f->rsp += 8;
}

static struct try t;

static struct try *run(const char *code, const void *to, u64 flags)
{
	fresh(&t);
	t.r.rcx = (u64)to;
	t.r.rax = flags;
	t.r.rsi = (u64)sync_behind;
	t.r.rbx = 0x77;
	try0(&t, code);
	return &t;
}

static void show(const char *name, int quiet)
{
	if (!quiet)
		say("%s: vector %ld, rbx %lx, flags %06lx\n", name, t.vector, t.r.rbx, t.r.rdx);
}

int main(void)
{
	static const u64 flags[] = { 2, F_IF | 2, F_DF | 0x47, F_IF | F_ID | 0x92, F_IOPL | 2, F_AC | F_IF | 2 };
	static const struct { const char *name, *at; } functions[] = { { "save", save }, { "off", off }, { "on", on_ } };

	pic_init();
	on(3, bp);
	for (int i = 0; i < 24; i++) {
		int quiet = i > 0 && i < 23;

		for (u32 k = 0; k < sizeof flags / sizeof *flags; k++) {
			run(sync, 0, flags[k]);
			show("sync", quiet);
			for (int f = 0; f < 3; f++) {
				run(call, functions[f].at, flags[k]);
				show(functions[f].name, quiet);
			}
		}
		/* The return itself, what is behind it, and the later parts of the sequence. */
		for (int at = 1; i >= 8 && at < 7; at++)
			for (int f = 0; f < 3; f++) {
				u64 before = breaks;

				if (!f && at == 1)
					continue; /* would pop the return address */
				broke = (u64)functions[f].at;
				run(call, functions[f].at + at, F_DF | 2);
				show(functions[f].name, quiet);
				if (!quiet)
					say(" +%d: %lu at +%ld\n", at, breaks - before, broke - (u64)functions[f].at);
			}
		if (i >= 8) {
			run(late, sync_push, F_DF | 2);
			show("push", quiet);
			run(later, sync_iret, F_IF | 2);
			show("iret", quiet);
		}
	}
	/* Written: the immediate behind the sequence, the instruction at the head of a function, the padding. */
	for (int i = 0; i < 12; i++) {
		((u8 *)low(sync_mark))[1] = i;
		run(sync, 0, F_IF | 2);
		show("mark", i < 10);
		*(u8 *)low(off) = i & 1 ? 0xfb : 0xfa;
		run(call, off, F_IF * (i >> 1 & 1) | 2);
		show(i & 1 ? "sti" : "cli", i < 8);
		((u8 *)low(save))[3] = i & 1 ? 0x90 : 0xcc;
		((u8 *)low(save))[4] = i & 1 ? 0xc3 : 0xcc;
		run(call, save + 3, 2);
		show("padding", i < 10);
		run(call, save, F_IF | 2);
		show("save", i < 10);
	}
	say("%lu breaks\n", breaks);
	return 0;
}
