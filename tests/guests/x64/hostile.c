/* A guest that looks for a VMM in the 4 GiB around its kernel and in all of the linear address space: it reads, writes and jumps to pages of which it has
 * mapped none, in both rings. Ring 3 finds nothing but #PF with P=0. In ring 0 there may be a page that does not fault, and there may be code
 * that something else runs from; the guest scribbles over the one and jumps into the other, everywhere. Whatever it does, it is the only one to suffer: it must come to its end, and the host and the guests beside it must not notice. */
#include "../lib64/rt.h"

enum { READ, WRITE, RUN };
static u32 quiet, wrong;
static u64 found, found_code;
u64 saved_rsp;

/* Sites for patch blocks, so that there is patch memory at all. */
CODE(sensitive, "mov $40, %ecx; 1: sti; pushfq; pop %rax; cli; pushfq; popfq; mov %cs, %edx; mov %ss, %edi; swapgs; smsw %esi; mov %rsp, %r8; push %rdi; push %r8;"
     "pushfq; push %rdx; push $2f; iretq; 2: dec %ecx; jnz 1b");
CODE(read_, "mov (%rbx), %rax");
CODE(write_, "mov %rax, (%rbx)");
CODE(run0, "mov %rsp, saved_rsp; call *%rbx; mov saved_rsp, %rsp");
CODE(run3, "jmp *%rbx");

static void probe(u64 va, u32 how, u32 ring)
{
	static const char *const code0[] = { read_, write_, run0 }, *const code3[] = { read_, write_, run3 };
	struct try t;
	u64 error = (how == WRITE ? 2 : how == RUN ? 16 : 0) | (ring ? 4 : 0);

	fresh(&t);
	t.r.rbx = va;
	(ring ? try3 : try0)(&t, (ring ? code3 : code0)[how]);
	if (t.vector == 14 && t.cr2 == va && t.error == error)
		return;
	/* Code that something else runs from may end in any way when it is entered like this. */
	if (ring || (how != RUN && t.vector != (u64)-1)) {
		if (wrong++ < 20)
			say("%016lx way %u ring %u: %s error %lx cr2 %016lx\n", va, how, ring, vector_name(t.vector), t.error, t.cr2);
		return;
	}
	quiet++;
	*(how == RUN ? &found_code : &found) = va & ~0xffful;
}

static void sweep(u32 how, u32 ring)
{
	/* The window: 4 MiB by 4 MiB, the first pages and some more. */
	for (u64 va = 0xffffffff00000000ul; va; va += 4 << 20)
		for (u64 n = 0; n < 1024 && va - KBASE >= 64 << 20; n += n < 2 ? 1 : 341)
			probe(va + (n << 12) + (n * 52 & 0xff8), how, ring);
	/* Behind the low alias, and each entry of the top-level table: its ends, and where tables begin. */
	for (u64 va = 64 << 20; va < 1ul << 32; va += 32 << 20)
		probe(va, how, ring);
	for (u64 slot = 1; slot < 511; slot++) {
		u64 at = slot << 39 | (slot & 256 ? 0xffffull << 48 : 0);

		for (u64 n = 0; n < 4; n++)
			probe(at + (n << 12), how, ring);
		probe(at + (1ul << 30), how, ring);
		probe(at + (1ul << 38) + 0x200000, how, ring);
		probe(at + (1ul << 39) - 8, how, ring);
	}
}

static void run_sensitive(void)
{
	struct try t;

	for (u32 i = 0; i < 4; i++) {
		fresh(&t);
		try0(&t, sensitive);
		cli();
	}
}

int main(void)
{
	static const char *const names[] = { "reads", "writes", "jumps" };

	pic_init();
	set_gate(14, stub(14), GATE_INT, 0);
	run_sensitive();
	for (u32 ring = 0; ring <= 3; ring += 3)
		for (u32 how = READ; how <= RUN; how++) {
			quiet = 0;
			sweep(how, ring);
			say("%s in ring %u: ", names[how], ring);
			check(ring ? "denied" : "denied but for a page", wrong == 0 && quiet <= (ring ? 0 : 1));
			run_sensitive();
		}
	/* Whatever is there is filled with all kinds of things while it is in use. */
	for (u32 round = 0; found && round < 64; round++) {
		for (u32 i = 0; i < 1024; i++)
			((volatile u32 *)found)[i] = round < 8 ? 0u - (round & 1) : round < 16 ? 0xccccccccu : i * 0x9e3779b9u * round;
		run_sensitive();
	}
	/* Jumped to with registers that let the pieces end, in one way or another. */
	for (u64 at = 0; found_code && at < 4096; at++) {
		struct try t;

		fresh(&t);
		t.r.rbx = found_code + at;
		t.r.rcx = 1;
		try0(&t, run0);
		cli();
	}
	run_sensitive();
	say("still here\n");
	return 0;
}
