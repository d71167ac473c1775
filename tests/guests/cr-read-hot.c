/* Hot reads of control registers see every change, by MOV to CR, CLTS, LMSW and page faults, at once (SDM 2, MOV CR). */
#include "lib/rt.h"

/* One place for all reads, so that it becomes hot: CR0, CR2, CR3 and CR4 into four registers, with neighbours. */
CODE(reads, "mov %cr0, %eax; mov %cr2, %ebx; add $0, %ebx; mov %cr3, %ecx; lea 0(%ecx), %ecx; mov %cr4, %edx; mov %edx, %edi");
CODE(ts, "mov %cr0, %eax; or $8, %eax; mov %eax, %cr0");
CODE(clts, "clts");
CODE(lmsw, "smsw %ax; or $2, %ax; lmsw %ax");
CODE(cr3, "mov %cr3, %eax; or $0x18, %eax; mov %eax, %cr3");
CODE(cr3_back, "mov %cr3, %eax; and $~0x18, %eax; mov %eax, %cr3");
CODE(cr4, "mov %cr4, %eax; xor $0x84, %eax; mov %eax, %cr4");
CODE(cr2, "mov %ecx, %cr2");
CODE(fault, "mov (%ecx), %eax");
/* The interrupt flag must be let alone, and so must all others. */
CODE(flags, "stc; std; mov %cr2, %ebx; pushf; pop %edx; cld");

static u32 first[4];

static void show(const char *what)
{
	struct try t;

	fresh(&t);
	try0(&t, reads);
	say("%s: cr0 %08x cr2 %08x cr3 %08x cr4 %08x\n", what, t.r.eax, t.r.ebx, t.r.ecx ^ first[2], t.r.edx);
}

static void run(const void *code, u32 ecx)
{
	struct try t;

	fresh(&t);
	t.r.ecx = ecx;
	try0(&t, code);
}

int main(void)
{
	struct try t;

	paging_on(identity_map(16, PG_P | PG_W | PG_U), 0);
	fresh(&t);
	try0(&t, reads);
	first[2] = t.r.ecx;
	for (u32 round = 0; round < 12; round++) {
		show("as it is");
		run(ts, 0), show("mov to cr0");
		run(clts, 0), show("clts");
		run(lmsw, 0), show("lmsw");
		run(cr3, 0), show("mov to cr3");
		run(cr3_back, 0), show("and back");
		run(cr4, 0), show("mov to cr4");
		run(cr2, 0x1000 * round + 1), show("mov to cr2");
		run(fault, 0x40000000 + 0x11111 * round), show("a fault");
		fresh(&t);
		try0(&t, flags);
		say("flags %08x\n", t.r.edx);
	}
	go3("ring 3", reads, 0);
	return 0;
}
