/* Two-level page tables. */
#include "rt.h"

extern char image_end[];
static u32 next_page;

void *page(void)
{
	if (!next_page)
		next_page = ((u32)image_end + 0xfff) & ~0xfffu;
	next_page += 4096;
	return memset((void *)(next_page - 4096), 0, 4096);
}

u32 *pte(u32 *pd, u32 va)
{
	u32 *e = pd + (va >> 22);

	if (!(*e & PG_P))
		*e = (u32)page() | PG_P | PG_W | PG_U;
	return (u32 *)(*e & ~0xfffu) + ((va >> 12) & 1023);
}

u32 *identity_map(u32 mib, u32 flags)
{
	u32 *pd = page();

	for (u32 va = 0; va < mib << 20; va += 4096)
		*pte(pd, va) = va | flags;
	return pd;
}

void paging_on(u32 *pd, u32 cr0_bits)
{
	write_cr3((u32)pd);
	write_cr0((read_cr0() & ~CR0_WP) | CR0_PG | cr0_bits);
}
