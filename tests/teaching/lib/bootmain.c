/* The second half of the boot loader, in flat protected mode without paging: reads the kernel, an ELF file of either class that begins at
 * sector 16 of the first disk, to the physical addresses that its program headers say. */
#include "io.h"

enum { KERNEL_SECTOR = 16, SECTOR = 512 };

struct elf {
	u8 magic[4], class, more[11];
	u16 type, machine;
	u32 version;
	union {
		struct { u32 entry, phoff, shoff, flags; u16 ehsize, phentsize, phnum; } narrow;
		struct { u64 entry, phoff, shoff; u32 flags; u16 ehsize, phentsize, phnum; } wide;
	};
};
struct segment { u32 type, offset, vaddr, paddr, filesz, memsz, flags, align; };
struct segment64 { u32 type, flags; u64 offset, vaddr, paddr, filesz, memsz, align; };

static void wait_ready(void)
{
	while ((inb(0x1f7) & 0xc0) != 0x40)
		;
}

static void read_sector(u8 *to, u32 lba)
{
	wait_ready();
	outb(0x1f6, 0xe0 | lba >> 24);
	outb(0x1f2, 1);
	outb(0x1f3, lba);
	outb(0x1f4, lba >> 8);
	outb(0x1f5, lba >> 16);
	outb(0x1f7, 0x20);
	/* The status is not valid for 400 ns. */
	for (int i = 0; i < 4; i++)
		inb(0x3f6);
	wait_ready();
	insl(0x1f0, to, SECTOR / 4);
}

/* Whole sectors: what is read too much lies before and behind the segment, where the next one or zeros are written later. */
static void read_segment(u32 paddr, u32 filesz, u32 memsz, u32 offset)
{
	u8 *to = (u8 *)(paddr - offset % SECTOR), *end = (u8 *)(paddr + filesz);

	for (u32 lba = KERNEL_SECTOR + offset / SECTOR; to < end; to += SECTOR, lba++)
		read_sector(to, lba);
	for (u8 *zero = end; zero < (u8 *)(paddr + memsz); zero++)
		*zero = 0;
}

/* Returns the entry point. */
u32 bootmain(void)
{
	struct elf *elf = (struct elf *)0x10000;
	u32 entry, phoff, phnum, size;

	for (u32 i = 0; i < 8; i++)
		read_sector((u8 *)elf + i * SECTOR, KERNEL_SECTOR + i);
	if (elf->class == 2) {
		entry = elf->wide.entry, phoff = elf->wide.phoff, phnum = elf->wide.phnum, size = sizeof(struct segment64);
	} else {
		entry = elf->narrow.entry, phoff = elf->narrow.phoff, phnum = elf->narrow.phnum, size = sizeof(struct segment);
	}
	for (u32 i = 0; i < phnum; i++) {
		struct segment *s = (void *)((u8 *)elf + phoff + i * size);
		struct segment64 *w = (void *)s;

		if (s->type != 1)
			continue;
		if (elf->class == 2)
			read_segment(w->paddr, w->filesz, w->memsz, w->offset);
		else
			read_segment(s->paddr, s->filesz, s->memsz, s->offset);
	}
	return entry;
}
