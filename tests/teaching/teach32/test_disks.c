/* The system's disk and a second one. */
#include "kernel.h"
#include "../lib/ata.h"

static u8 buffer[16 * 512], more[16 * 512];

static void fill(u8 seed)
{
	for (u32 i = 0; i < sizeof buffer; i++)
		buffer[i] = seed + i * 7 + (i >> 8);
}

static u32 sum(const u8 *p, u32 n)
{
	u32 a = 0;
	for (; n; n--)
		a = (a << 1 | a >> 31) + *p++;
	return a;
}

static void disks(const char *how)
{
	struct identity it = { 0 };

	print("disks by %s\n", how);
	want("identify", ata_identify(0, &it), 0);
	print("first: %u sectors, lba %u, dma %u\n", it.sectors, it.lba, it.dma);
	want("identify second", ata_identify(1, &it), 0);
	print("second: %u sectors\n", it.sectors);
	want("boot sector", ata_read(0, 0, 1, buffer), 0);
	want("its mark", buffer[510] | buffer[511] << 8, 0xaa55);
	want("many", ata_read(0, 16, 16, buffer), 0);
	want("ELF", *(u32 *)buffer, 0x464c457f);
	/* What is read twice, at once and one by one, is the same. */
	for (u32 i = 0; i < 16; i++)
		want("one", ata_read(0, 16 + i, 1, more + i * 512), 0);
	want("the same", sum(more, sizeof more), sum(buffer, sizeof buffer));

	fill(how[0]);
	want("write", ata_write(1, 100, 16, buffer), 0);
	want("flush", ata_flush(1), 0);
	memset(more, 0, sizeof more);
	want("read back", ata_read(1, 100, 16, more), 0);
	want("as written", memcmp(more, buffer, sizeof buffer), 0);
	fill(how[1]);
	want("write first", ata_write(0, 1500, 3, buffer), 0);
	want("read back first", ata_read(0, 1499, 5, more), 0);
	want("as written", memcmp(more + 512, buffer, 3 * 512), 0);
	want("the one before", sum(more, 512), 0);
	want("the one behind", sum(more + 4 * 512, 512), 0);
	want("last sector", ata_read(1, it.sectors - 1, 1, buffer), 0);
	print("last: %s\n", buffer);
}

void test_disks(void)
{
	test("disks-polled");
	disks("polling");
	want("none there", ata_identify(3, &(struct identity){ 0 }), -1u);

	test("disks-irq");
	pic_mask(0xbffb);
	ata_irqs = &irqs[14];
	disks("interrupts");
	ata_irqs = 0;
	/* The handler counted one for each sector read, for each block written, one for each other command. */
	print("interrupts: %u\n", irqs[14]);
	pic_mask(0xffff);

	test("disks-wrong");
	struct identity it = { 0 };
	ata_identify(1, &it);
	want("behind the end", ata_read(1, it.sectors, 1, buffer) >> 8, 1);
	want("and again", ata_read(1, it.sectors - 1, 1, buffer), 0);
	/* An unknown command is aborted. */
	outb(0x1f6, 0xf0);
	outb(0x1f7, 0x02);
	while (inb(0x3f6) & 0x80)
		;
	want("unknown command", (inb(0x1f7) & 1) << 8 | inb(0x1f1), 0x104);
}
