/* Four-level page tables. */
#include "rt.h"

extern char image_end[];
static char *next_page;

void *page(void)
{
	if (!next_page)
		next_page = image_end;
	next_page += 4096;
	return memset(next_page - 4096, 0, 4096);
}

u64 *new_root(void)
{
	u64 *root = page();

	root[0] = boot_pml4[0];
	root[511] = boot_pml4[511];
	return root;
}

u64 *entry(u64 *root, u64 va, int level)
{
	u64 *table = root;

	for (int l = 4; l > level; l--) {
		u64 *e = table + (va >> (12 + 9 * (l - 1)) & 511);

		if (!(*e & PG_P))
			*e = low(page()) | PG_P | PG_W | PG_U;
		table = virt(*e & PG_ADDRESS);
	}
	return table + (va >> (12 + 9 * (level - 1)) & 511);
}

void map(u64 *root, u64 va, u64 phys, u64 flags)
{
	*entry(root, va, 1) = phys | flags;
}

void use(u64 *root)
{
	write_cr3(low(root));
}
