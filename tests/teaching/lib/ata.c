#include "ata.h"

enum { BSY = 0x80, DRDY = 0x40, DRQ = 0x08, ERR = 0x01, NIEN = 0x02 };

volatile u32 *ata_irqs;
static u16 base, control;

static void delay(void)
{
	for (int i = 0; i < 4; i++)
		inb(control);
}

static int select(int drive, u32 lba)
{
	base = drive & 2 ? 0x170 : 0x1f0;
	control = base + 0x206;
	while (inb(control) & BSY)
		;
	outb(base + 6, 0xe0 | (drive & 1) << 4 | (lba >> 24 & 0xf));
	delay();
	outb(control, ata_irqs ? 0 : NIEN);
	/* Nothing there: all zeros, or the floating bus. */
	u8 status = inb(control);
	return status == 0 || status == 0xff ? -1 : 0;
}

static void command(u32 lba, u32 count, u8 what)
{
	outb(base + 2, count);
	outb(base + 3, lba);
	outb(base + 4, lba >> 8);
	outb(base + 5, lba >> 16);
	outb(base + 7, what);
}

/* Waits for the interrupt after "seen" or for the end of BSY, then for what the status says. */
static int wait(u32 seen)
{
	if (ata_irqs)
		while (*ata_irqs == seen)
			asm volatile("sti; hlt; cli");
	else
		delay();
	while (inb(control) & BSY)
		;
	u8 status = inb(base + 7);
	return status & ERR ? 0x100 | inb(base + 1) : 0;
}

int ata_identify(int drive, struct identity *identity)
{
	u16 words[256];
	int error = select(drive, 0);

	if (error)
		return error;
	u32 seen = ata_irqs ? *ata_irqs : 0;
	command(0, 0, 0xec);
	if ((error = wait(seen)))
		return error;
	insw(base, words, 256);
	identity->sectors = words[60] | words[61] << 16;
	identity->lba = words[49] >> 9 & 1;
	identity->dma = words[49] >> 8 & 1;
	return 0;
}

int ata_read(int drive, u32 lba, u32 count, void *to)
{
	int error = select(drive, lba);

	if (error)
		return error;
	u32 seen = ata_irqs ? *ata_irqs : 0;
	command(lba, count, 0x20);
	for (; count; count--, to += 512) {
		if ((error = wait(seen)))
			return error;
		seen = ata_irqs ? *ata_irqs : 0;
		insw(base, to, 256);
	}
	return 0;
}

int ata_write(int drive, u32 lba, u32 count, const void *from)
{
	int error = select(drive, lba);

	if (error)
		return error;
	command(lba, count, 0x30);
	/* The first block is asked for without an interrupt. */
	delay();
	for (;;) {
		while ((inb(control) & (BSY | DRQ)) != DRQ)
			if (inb(control) & ERR)
				return 0x100 | inb(base + 1);
		u32 seen = ata_irqs ? *ata_irqs : 0;
		outsw(base, from, 256);
		from += 512;
		if ((error = wait(seen)))
			return error;
		if (!--count)
			return 0;
	}
}

int ata_flush(int drive)
{
	int error = select(drive, 0);

	if (error)
		return error;
	u32 seen = ata_irqs ? *ata_irqs : 0;
	outb(base + 7, 0xe7);
	return wait(seen);
}
