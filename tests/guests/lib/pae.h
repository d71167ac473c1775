/* PAE page tables for guests with bits=pae: three levels of 64-bit entries (SDM 3, 4.4). Included once. */
#include "rt.h"

#define PG_NX (1ull << 63)
#define MSR_EFER 0xc0000080u
enum { CR4_PAE = 32, EFER_NXE = 0x800 };

/* The entry of `va` at level 1 (table), 2 (directory) or 3 (of four); makes what is missing above it. */
static u64 *pae_entry(u64 *root, u32 va, int level)
{
	u64 *table = root;

	for (int l = 3; l > level; l--) {
		u64 *e = table + (l == 3 ? va >> 30 : va >> 21 & 511);

		if (!(*e & PG_P))
			*e = (u32)page() | PG_P | (l == 3 ? 0 : PG_W | PG_U);
		table = (u64 *)((u32)*e & ~0xfffu);
	}
	return table + (level == 3 ? va >> 30 : level == 2 ? va >> 21 & 511 : va >> 12 & 511);
}

/* A fresh root that maps the first `mib` MiB one to one with 4 KiB pages. */
static u64 *pae_identity(u32 mib, u64 flags)
{
	u64 *root = page();

	for (u32 va = 0; va < mib << 20; va += 4096)
		*pae_entry(root, va, 1) = va | flags;
	return root;
}

static void pae_on(u64 *root, u32 cr0_bits)
{
	write_cr4(read_cr4() | CR4_PAE);
	write_cr3((u32)root);
	write_cr0((read_cr0() & ~CR0_WP) | CR0_PG | cr0_bits);
}
