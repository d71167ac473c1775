/* Reserved bits in paging-structure entries: #PF with RSVD in the error code, in each ring and for each access: PS in a PML4 entry, low address
 * bits of large pages, NX without EFER.NXE (SDM 3, 4.5, 4.7). */
#include "../lib64/rt.h"

CODE(read_it, "mov (%rbx), %al");
CODE(write_it, "movb $0xc3, (%rbx)");
static const u64 va = 0x00007f1240000000;
static u64 *root;

static void one(const char *name, int level, u64 set)
{
	u64 *e = entry(root, va, level), old = *e;

	*e |= set;
	use(root);
	say("%s:", name);
	for (int ring = 0; ring < 4; ring += 3)
		for (int w = 0; w < 2; w++) {
			struct try t;

			fresh(&t);
			t.r.rbx = va;
			if (!(ring ? try3 : try0)(&t, w ? write_it : read_it))
				say(" --");
			else
				say(" %s %02lx", vector_name(t.vector), t.error);
		}
	say("\n");
	*e = old;
	use(root);
}

int main(void)
{
	root = new_root();
	map(root, va, low(page()), PG_P | PG_W | PG_U);
	one("nothing", 1, 0);
	one("PS in the PML4 entry", 4, PG_PS);
	one("NX", 1, PG_NX);
	*entry(root, va, 2) = 0x1000000 | PG_P | PG_W | PG_U | PG_PS;
	one("2 MiB", 2, 0);
	one("2 MiB, bit 13", 2, 1 << 13);
	one("2 MiB, bit 20", 2, 1 << 20);
	*entry(root, va, 3) = PG_P | PG_W | PG_U | PG_PS;
	one("1 GiB", 3, 0);
	one("1 GiB, bit 13", 3, 1 << 13);
	one("1 GiB, bit 21", 3, 1 << 21);
	one("1 GiB, bit 29", 3, 1 << 29);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_NXE);
	one("NX in the PML4 entry without NXE", 4, PG_NX);
	one("NX in the 1 GiB entry without NXE", 3, PG_NX);
	*entry(root, va, 3) = 0;
	map(root, va, low(page()), PG_P | PG_W | PG_U);
	one("NX in the directory without NXE", 2, PG_NX);
	one("NX in the page table without NXE", 1, PG_NX);
	map(root, va, low(page()), PG_W | PG_U);
	one("NX in an absent entry without NXE", 1, PG_NX);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	one("absent", 1, 0);
	return 0;
}
