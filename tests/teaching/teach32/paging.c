/* Memory: page frames with counts of their users, two-level tables, pages on demand and copies on write. */
#include "kernel.h"

enum { FIRST = 0x400000, LAST = 0xc00000, FRAMES = (LAST - FIRST) / PAGE };

u32 *kernel_directory;
static u8 users[FRAMES];
static u32 next;

u32 page_new(void)
{
	for (u32 i = 0; i < FRAMES; i++, next++) {
		u32 n = next % FRAMES;
		if (users[n])
			continue;
		users[n] = 1;
		memset(high(FIRST + n * PAGE), 0, PAGE);
		return FIRST + n * PAGE;
	}
	print("no memory\n");
	finish(1);
}

void page_free(u32 physical) { users[(physical - FIRST) / PAGE]--; }
void page_share(u32 physical) { users[(physical - FIRST) / PAGE]++; }
u32 page_users(u32 physical) { return users[(physical - FIRST) / PAGE]; }

u32 pages_free(void)
{
	u32 n = 0;
	for (u32 i = 0; i < FRAMES; i++)
		n += !users[i];
	return n;
}

/* Whether D of DIRECTORY is the kernel's table, whatever the CPU has marked. */
static int kernels(u32 *directory, u32 d)
{
	return !((directory[d] ^ kernel_directory[d]) & ~0xfff);
}

u32 *page_entry(u32 *directory, u32 address, int make)
{
	u32 *entry = &directory[address >> 22];

	if (!(*entry & PRESENT)) {
		if (!make)
			return 0;
		*entry = page_new() | PRESENT | WRITE | USER;
	}
	return (u32 *)high(*entry & ~0xfff) + (address >> 12 & 0x3ff);
}

/* The first 16 MiB at 3 GiB and the first 4 MiB, by a table of their own, where they are: the low map stays for the boot loader's and the
 * BIOS' memory. */
void paging_init(void)
{
	kernel_directory = high(page_new());
	for (u32 p = 0; p < 0x1000000; p += PAGE)
		*page_entry(kernel_directory, BASE + p, 1) = p | PRESENT | WRITE;
	for (u32 p = 0; p < 0x400000; p += PAGE)
		*page_entry(kernel_directory, p, 1) = p | PRESENT | WRITE;
	write_cr3(low(kernel_directory));
}

/* 1 if the fault is mended: an access to the heap or the stack that has no page yet, or a write to a shared one. */
int page_fault(u32 *directory, u32 address, u32 error)
{
	int demand = (address >= USER_HEAP && address < USER_HEAP_END) || (address >= USER_STACK - 16 * PAGE && address < USER_STACK);

	if (!(error & PRESENT)) {
		if (!demand)
			return 0;
		*page_entry(directory, address, 1) = page_new() | PRESENT | WRITE | USER;
		return 1;
	}
	u32 *entry = page_entry(directory, address, 0);
	if (!(error & WRITE) || !entry || (*entry & (PRESENT | WRITE | OURS)) != (PRESENT | OURS))
		return 0;
	u32 old = *entry & ~0xfff;
	if (page_users(old) == 1) {
		*entry = old | PRESENT | WRITE | USER;
	} else {
		u32 copy = page_new();
		memcpy(high(copy), high(old), PAGE);
		page_free(old);
		*entry = copy | PRESENT | WRITE | USER;
	}
	invlpg(address);
	return 1;
}

/* A directory with the kernel's part, and the user pages of FROM shared until they are written to. */
u32 *directory_copy(u32 *from)
{
	u32 *directory = high(page_new());

	for (u32 d = 0; d < 1024; d++) {
		if (kernels(from, d)) {
			directory[d] = from[d];
			continue;
		}
		for (u32 t = 0; t < 1024; t++) {
			u32 *entry = page_entry(from, d << 22 | t << 12, 0);
			if (!(*entry & PRESENT))
				continue;
			if (*entry & WRITE)
				*entry = (*entry & ~WRITE) | OURS;
			page_share(*entry & ~0xfff);
			*page_entry(directory, d << 22 | t << 12, 1) = *entry & ~(ACCESSED | DIRTY);
		}
	}
	write_cr3(read_cr3());
	return directory;
}

void directory_free(u32 *directory)
{
	for (u32 d = 0; d < 1024; d++) {
		if (kernels(directory, d))
			continue;
		for (u32 t = 0; t < 1024; t++) {
			u32 entry = *page_entry(directory, d << 22 | t << 12, 0);
			if (entry & PRESENT)
				page_free(entry & ~0xfff);
		}
		page_free(directory[d] & ~0xfff);
	}
	page_free(low(directory));
}
