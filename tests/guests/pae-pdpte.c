/* The four top entries of PAE paging are registers: a change in memory counts with the next load of CR3; an absent one faults (SDM 3, 4.4.1). */
#include "lib/pae.h"

CODE(read_it, "mov (%ebx), %eax");
enum { VA = 0x80000000u };

static void see(const char *name)
{
	struct try t;

	fresh(&t);
	t.r.ebx = VA;
	go0(name, read_it, &t);
	if (t.vector == (u32)-1)
		say(" %08x\n", t.r.eax);
}

int main(void)
{
	u64 *root = pae_identity(16, PG_P | PG_W), *other = page();
	u32 *one = page(), *two = page();

	*one = 0x1111;
	*two = 0x2222;
	*pae_entry(root, VA, 1) = (u32)one | PG_P | PG_W;
	*pae_entry(other, VA, 1) = (u32)two | PG_P | PG_W;
	pae_on(root, CR0_WP);
	u64 was = root[2];

	for (int round = 0; round < 2; round++) {
		see("one");
		root[2] = 0;
		write_cr3(read_cr3());
		see("absent");
		root[2] = other[2];
		write_cr3(read_cr3());
		see("two");
		root[2] = was;
		write_cr3(read_cr3());
	}
	/* Another table of four, not at the start of its page. */
	u64 *four = (u64 *)((u8 *)page() + 0x7e0);

	memcpy(four, root, 32);
	four[2] = other[2];
	write_cr3((u32)four);
	see("two, from a table within a page");
	check("cr3 reads back", read_cr3() == (u32)four);
	write_cr3((u32)root);
	see("one");
	return 0;
}
