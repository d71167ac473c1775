/* PCI: what is on bus 0. The IDE controller's bus masters move data to memory, with the interrupt through the I/O APIC. And the clock. */
#include "kernel.h"
#include "../lib/ata.h"

static u32 ide, master;

static u32 config(u32 function, u32 reg)
{
	outl(0xcf8, 0x80000000 | function << 8 | reg);
	return inl(0xcfc);
}
static void config_set(u32 function, u32 reg, u32 v)
{
	outl(0xcf8, 0x80000000 | function << 8 | reg);
	outl(0xcfc, v);
}

static u8 cmos(u8 reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

void test_pci(void)
{
	test("pci");
	for (u32 function = 0; function < 256; function++) {
		u32 id = config(function, 0);
		if ((id & 0xffff) == 0xffff)
			continue;
		/* Functions but the first only where the header says so. */
		if ((function & 7) && !(config(function & ~7, 12) & 0x800000))
			continue;
		u32 class = config(function, 8) >> 16;
		print("%u.%u %x class %x\n", function >> 3, function & 7, id, class);
		if (class == 0x0101)
			ide = function;
	}
	want("IDE there", ide != 0, 1);
	master = config(ide, 0x20) & ~0xf;
	config_set(ide, 4, config(ide, 4) | 5);
	want("bus master", config(ide, 4) & 5, 5);
	/* A register's size by what of it stays. */
	u32 bar = config(ide, 0x20);
	config_set(ide, 0x20, ~0u);
	want("size", ~(config(ide, 0x20) & ~3) + 1, 16);
	config_set(ide, 0x20, bar);

	test("clock");
	want("24 hours, BCD", cmos(0x0b) & 0x7f, 2);
	want("valid", cmos(0x0d) & 0x80, 0x80);
	want("base memory", cmos(0x15) | cmos(0x16) << 8, 640);
	/* Seconds go on. */
	u8 second = cmos(0);
	while (cmos(0) == second)
		;
	want("rate", cmos(0x0a) & 0x7f, 0x26);
}

/* One command through the bus master of the primary channel; returns its status. */
static u32 transfer(int drive, u32 lba, u32 count, u64 table, u8 command)
{
	u32 before = disk_irqs;

	outb(master, 0);
	outl(master + 4, table);
	outb(master + 2, inb(master + 2) | 6);
	while (inb(0x3f6) & 0x88)
		;
	outb(0x1f6, 0xe0 | drive << 4);
	for (int i = 0; i < 4; i++)
		inb(0x3f6);
	outb(0x3f6, 0);
	outb(0x1f2, count);
	outb(0x1f3, lba);
	outb(0x1f4, lba >> 8);
	outb(0x1f5, lba >> 16);
	outb(0x1f7, command);
	outb(master, (command == 0xc8 ? 8 : 0) | 1);
	while (disk_irqs == before)
		asm volatile("sti; hlt; cli");
	u32 status = inb(master + 2);
	outb(master, 0);
	outb(master + 2, status | 6);
	/* The channel's, and the drive's error. */
	return (status & 7) << 8 | (inb(0x1f7) & 1);
}

/* The bus master's regions do not cross 64 KiB. */
static u8 area[16384] __attribute__((aligned(65536)));

void test_dma(void)
{
	static u8 by_pio[16 * 512];
	struct identity it = { 0 };

	test("dma-read");
	want("identify", ata_identify(0, &it), 0);
	want("DMA", it.dma, 1);
	ioapic_route(14, DISK);
	/* Two regions, the second not aligned to more than two bytes. */
	u64 table = page_new();
	u32 *regions = direct(table);
	enum { FIRST = 4096 - 512, SECOND = sizeof by_pio - FIRST };
	regions[0] = physical(area);
	regions[1] = FIRST;
	regions[2] = physical(area) + 4096 + 2;
	regions[3] = 0x80000000 | SECOND;
	want("status", transfer(0, 16, 16, table, 0xc8), 0x400);
	want("pio", ata_read(0, 16, 16, by_pio), 0);
	want("first region", memcmp(area, by_pio, FIRST), 0);
	want("second region", memcmp(area + 4096 + 2, by_pio + FIRST, SECOND), 0);
	u32 gap = 0;
	for (u32 i = FIRST; i < 4096 + 2; i++)
		gap |= area[i];
	want("between them", gap | area[4096 + 2 + SECOND], 0);

	test("dma-write");
	u32 *words = (u32 *)area;
	for (u32 i = 0; i < 2048; i++)
		words[i] = i * 0x9e3779b9;
	regions[0] = physical(area);
	regions[1] = 0x80000000 | 8192;
	want("status", transfer(1, 200, 16, table, 0xca), 0x400);
	want("flush", ata_flush(1), 0);
	want("pio", ata_read(1, 200, 16, by_pio), 0);
	want("as written", memcmp(by_pio, words, 8192), 0);
	memset(words, 0, 8192);
	want("and back", transfer(1, 200, 16, table, 0xc8), 0x400);
	want("the same", memcmp(by_pio, words, 8192), 0);

	test("pio-irq");
	ata_irqs = &disk_irqs;
	want("last sector", ata_read(1, 6143, 1, by_pio), 0);
	print("last: %s\n", by_pio);
	ata_irqs = 0;
	ioapic_route(14, 0x10000);
}
