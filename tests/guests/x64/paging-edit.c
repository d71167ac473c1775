/* The guest edits its tables while it runs: every level, from present to absent and back, other rights, another page, through a self-mapped PML4
 * and through an alias, with INVLPG or CR3 after each (SDM 3, 4.10). */
#include "../lib64/rt.h"

enum { SELF = 510 };
CODE(read_it, "mov (%rbx), %rax");
CODE(write_it, "mov %rcx, (%rbx)");
static const u64 va = 0x00007f1234567000;
static u64 *root;

static void see(const char *name)
{
	struct try t;

	say("%s:", name);
	for (int i = 0; i < 4; i++) {
		fresh(&t);
		t.r.rbx = va;
		t.r.rcx = 0x4444;
		if (!(i & 2 ? try3 : try0)(&t, i & 1 ? write_it : read_it))
			say(" %lx", i & 1 ? *(u64 *)va : t.r.rax);
		else
			say(" %s %02lx", vector_name(t.vector), t.error);
	}
	say("\n");
}

int main(void)
{
	/* The tables of VA in the recursive window, bottom up. */
	volatile u64 *const window[4] = {
		(u64 *)(0xffffff0000000000 | (va >> 9 & 0x7ffffffff8)),
		(u64 *)(0xffffff7f80000000 | (va >> 18 & 0x3ffffff8)),
		(u64 *)(0xffffff7fbfc00000 | (va >> 27 & 0x1ffff8)),
		(u64 *)(0xffffff7fbfdfe000 | (va >> 36 & 0xff8)),
	};
	u64 *one = page(), *two = page();
	u64 phys1 = low(one), phys2 = low(two);

	*one = 0x1111;
	*two = 0x2222;
	root = new_root();
	root[SELF] = low(root) | PG_P | PG_W;
	map(root, va, phys1, PG_P | PG_W | PG_U);
	use(root);
	see("one");
	for (int level = 1; level <= 4; level++) {
		u64 *e = entry(root, va, level), old = *e;

		say("level %d\n", level);
		check(" the window shows it", (*window[level - 1] & PG_ADDRESS) == (old & PG_ADDRESS));
		*e = old & ~1ul;
		invlpg(va);
		see(" absent");
		*window[level - 1] = old & ~(u64)PG_W;
		invlpg(va);
		see(" read-only");
		*window[level - 1] = old & ~(u64)PG_U;
		invlpg(va);
		see(" the kernel's");
		*e = old;
		use(root);
		see(" as before");
		if (level == 1) {
			*one = 0x1111;
			*window[0] = phys2 | PG_P | PG_W | PG_U;
			invlpg(va);
			see(" two");
			*e = phys1 | PG_P | PG_W | PG_U;
			use(root);
			see(" one");
		} else {
			/* A copy of the table in its place. */
			u64 *copy = memcpy(page(), virt(old & PG_ADDRESS), 4096);

			*e = low(copy) | (old & 0xfff);
			use(root);
			see(" a copy");
			if (level == 2) {
				*entry(root, va, 1) = phys2 | PG_P | PG_W | PG_U;
				invlpg(va);
				see(" changed in the copy");
				*e = old;
				use(root);
				see(" the first table");
			}
		}
	}
	/* The table through another address, in the high half. */
	map(root, 0xffffc90000000000, *entry(root, va, 2) & PG_ADDRESS, PG_P | PG_W);
	use(root);
	volatile u64 *alias = (u64 *)0xffffc90000000000 + (va >> 12 & 511);

	*alias = phys1 | PG_P | PG_U;
	invlpg(va);
	see("through the alias");
	check("A came through", *alias & PG_A);
	*alias = 0;
	invlpg(va);
	see("absent through the alias");
	return 0;
}
