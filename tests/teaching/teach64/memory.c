/* Page frames from 4 MiB on, and four-level tables of 4 KiB pages beside the large ones. */
#include "kernel.h"

static u64 next = 0x400000;
extern u64 level4[];

u64 page_new(void)
{
	u64 page = next;
	next += PAGE;
	memset(direct(page), 0, PAGE);
	return page;
}

u64 *page_entry(u64 address, int make)
{
	u64 *table = level4;

	for (u32 shift = 39; shift > 12; shift -= 9) {
		u64 *entry = &table[address >> shift & 511];
		if (!(*entry & PRESENT)) {
			if (!make)
				return 0;
			*entry = page_new() | PRESENT | WRITE | USER;
		}
		if (*entry & LARGE)
			return entry;
		table = direct(*entry & 0xffffffffff000);
	}
	return &table[address >> 12 & 511];
}

void page_map(u64 address, u64 entry)
{
	*page_entry(address, 1) = entry;
	invlpg(address);
}
