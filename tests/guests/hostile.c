/* A guest that looks for a VMM in its own 4 GiB: it reads, writes and jumps to pages all over what it has not mapped, in both rings. Ring 3 finds nothing but
 * #PF with P=0. In ring 0 there may be a page that does not fault, and there may be code that something else runs from; the guest scribbles over the one and
 * jumps into the other, everywhere. Whatever it does, it is the only one to suffer: it must come to its end, and the host and the guests beside it must
 * not notice. */
#include "lib/rt.h"

enum { READ, WRITE, RUN };
#define MAPPED (64u << 20)
static u32 quiet, wrong, found, found_code;
u32 saved_esp;

/* Sites for patch blocks, so that there is patch memory at all. */
CODE(sensitive, "mov $40, %ecx; 1: sti; pushf; pop %eax; cli; pushf; popf; mov %cs, %edx; push %cs; pop %esi; smsw %edi; pushf; push %cs; push $2f; iret; 2: dec %ecx; jnz 1b");
CODE(read0, "mov (%ebx), %eax");
CODE(write0, "mov %eax, (%ebx)");
CODE(run0, "mov %esp, saved_esp; call *%ebx; mov saved_esp, %esp");
CODE(run3, "jmp *%ebx");

static void probe(u32 va, u32 how, u32 ring)
{
	static const char *const code0[] = { read0, write0, run0 }, *const code3[] = { read0, write0, run3 };
	struct try t;
	u32 error = (how == WRITE ? 2 : 0) | (ring ? 4 : 0);

	fresh(&t);
	t.r.ebx = va;
	(ring ? try3 : try0)(&t, (ring ? code3 : code0)[how]);
	if (t.vector == 14 && t.cr2 == va && t.error == error)
		return;
	/* Code that something else runs from may end in any way when it is entered like this. */
	if (ring || (how != RUN && t.vector != (u32)-1)) {
		if (wrong++ < 20)
			say("%08x way %u ring %u: %s error %x cr2 %08x\n", va, how, ring, vector_name(t.vector), t.error, t.cr2);
		return;
	}
	quiet++;
	*(how == RUN ? &found_code : &found) = va & ~0xfffu;
}

static void sweep(u32 how, u32 ring)
{
	for (u32 va = MAPPED; va >= MAPPED; va += 4 << 20)
		for (u32 n = 0; n < 1024; n += n < 2 ? 1 : 341)
			probe(va + (n << 12) + (n * 52 & 0xffc), how, ring);
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
	u32 *pd = identity_map(64, PG_P | PG_W | PG_U);
	static const char *const names[] = { "reads", "writes", "jumps" };

	pic_init();
	set_gate(14, stub(14), GATE_INT);
	paging_on(pd, CR0_WP);
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
	for (u32 at = 0; found_code && at < 4096; at++) {
		struct try t;

		fresh(&t);
		t.r.ebx = found_code + at;
		t.r.ecx = 1;
		try0(&t, run0);
		cli();
	}
	run_sensitive();
	say("still here\n");
	return 0;
}
